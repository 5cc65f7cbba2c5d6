package tickets_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/annex-api/annex/examples/internal/standalone"
	"github.com/annex-api/annex/examples/tickets"
	v1 "github.com/annex-api/annex/examples/tickets/v1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
	"github.com/annex-api/annex/extension/extensiontest/postgres"
	"github.com/annex-api/annex/extension/storage/drivers"
)

var resource = v1.GroupVersion.WithResource("tickets")

const (
	// most are made, and in the short form few.
	most, few = 10_000, 1_000
	// page is what kubectl asks for at a time.
	page = 500
	// patience bounds the whole of the test with many tickets.
	patience = 2 * time.Minute
)

func TestConformance(t *testing.T) {
	database := postgres.Start(t)
	running := extensiontest.Start(t, func(c *extension.Config) { c.Storage = database }, tickets.Tickets, extension.Drivers(drivers.All()...))
	extensiontest.Conform(t, running, conformance.Target{Resource: resource}, "scale/*", "versions/*", "apply/other-version")
}

// TestManyTickets runs the server as its README says, over a database of the test's own, and does
// with many tickets what clients do.
func TestManyTickets(t *testing.T) {
	count := most
	if testing.Short() {
		count = few
	}
	// What is lost when the machine stops is lost with the test.
	database := postgres.Start(t, "synchronous_commit=off")
	config := standalone.Example{
		Document: "README.md", Name: "tickets", Resource: resource, Instead: []string{"--storage=" + database},
		Parts: []extension.Part{tickets.Tickets, extension.Drivers(drivers.All()...)},
	}.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	if err := tickets.Seed(ctx, config, "default", count); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d tickets made in %v", count, time.Since(begin))
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	board := client.Resource(resource).Namespace("default")
	team1 := v1.TeamLabel + "=team-1"
	for name, c := range map[string]struct {
		options metav1.ListOptions
		want    int
	}{
		"all":               {metav1.ListOptions{}, count},
		"of a team":         {metav1.ListOptions{LabelSelector: team1}, count / tickets.Teams},
		"of two teams":      {metav1.ListOptions{LabelSelector: v1.TeamLabel + " in (team-1,team-2)"}, 2 * count / tickets.Teams},
		"of high priority":  {metav1.ListOptions{FieldSelector: "spec.priority=high"}, count / tickets.HighEvery},
		"somebody's":        {metav1.ListOptions{FieldSelector: "spec.assignee=person-7"}, count / tickets.Assignees},
		"of both":           {metav1.ListOptions{LabelSelector: team1, FieldSelector: "spec.assignee=person-1"}, count / tickets.Assignees},
		"of neither":        {metav1.ListOptions{LabelSelector: team1, FieldSelector: "spec.assignee=person-2"}, 0},
		"not high priority": {metav1.ListOptions{FieldSelector: "spec.priority!=high"}, count - count/tickets.HighEvery},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			names, pages, err := pagesOf(ctx, board, c.options)
			if err != nil || len(names) != c.want {
				t.Errorf("%d tickets, %v; want %d", len(names), err, c.want)
			}
			// Where others follow that are not selected, the last page may be an empty one.
			if want := max(1, (c.want+page-1)/page); pages != want && pages != want+1 {
				t.Errorf("they come in %d pages, want %d", pages, want)
			}
			t.Logf("%d tickets in %d pages in %v", len(names), pages, time.Since(begin))
		})
	}
	t.Run("a write between pages", func(t *testing.T) { writeBetweenPages(ctx, t, board, count) })
	t.Run("watch", func(t *testing.T) { watchMine(ctx, t, board, count) })
}

// pagesOf lists all, page by page as kubectl does, and gives their names, each once.
func pagesOf(ctx context.Context, board dynamic.ResourceInterface, o metav1.ListOptions) (names map[string]bool, pages int, err error) {
	names = map[string]bool{}
	o.Limit = page
	var version string
	for {
		list, err := board.List(ctx, o)
		if err != nil {
			return nil, 0, err
		}
		pages++
		if version == "" {
			version = list.GetResourceVersion()
		}
		if v := list.GetResourceVersion(); v != version {
			return nil, 0, fmt.Errorf("page %d is of version %s, the first of %s", pages, v, version)
		}
		for _, item := range list.Items {
			if names[item.GetName()] {
				return nil, 0, fmt.Errorf("%s is on two pages", item.GetName())
			}
			names[item.GetName()] = true
		}
		if o.Continue = list.GetContinue(); o.Continue == "" {
			return names, pages, nil
		}
	}
}

// writeBetweenPages: what is made, changed and removed after the first page is on none of them.
func writeBetweenPages(ctx context.Context, t *testing.T, board dynamic.ResourceInterface, count int) {
	first, err := board.List(ctx, metav1.ListOptions{Limit: page})
	if err != nil {
		t.Fatal(err)
	}
	if left := first.GetRemainingItemCount(); left == nil || *left != int64(count-page) {
		t.Errorf("%v tickets are left, want %d", left, count-page)
	}
	last := tickets.Numbered(count - 1).Name
	if err := board.Delete(ctx, last, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	found := len(first.Items)
	var seen bool
	for next := first.GetContinue(); next != ""; {
		list, err := board.List(ctx, metav1.ListOptions{Limit: page, Continue: next})
		if err != nil {
			t.Fatal(err)
		}
		found += len(list.Items)
		for _, item := range list.Items {
			seen = seen || item.GetName() == last
		}
		next = list.GetContinue()
	}
	if found != count || !seen {
		t.Errorf("the pages have %d tickets, and the one that was deleted: %v; want all %d as they were at first", found, seen, count)
	}
}

// watchMine is told of what there is of one assignee, then of what becomes his and what no longer
// is, and of nothing else.
func watchMine(ctx context.Context, t *testing.T, board dynamic.ResourceInterface, count int) {
	events, err := board.Watch(ctx, metav1.ListOptions{
		FieldSelector: "spec.assignee=person-7", AllowWatchBookmarks: true,
		SendInitialEvents: new(true), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	next := func() (watch.EventType, metav1.Object) {
		t.Helper()
		select {
		case e, ok := <-events.ResultChan():
			if o, isObject := e.Object.(metav1.Object); ok && isObject {
				return e.Type, o
			}
			t.Fatalf("the watch has %v (open: %v), want an object", e, ok)
		case <-ctx.Done():
			t.Fatalf("no event: %v", ctx.Err())
		}
		return "", nil
	}
	initial := 0
	for {
		kind, o := next()
		if kind == watch.Bookmark && o.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
			break
		}
		initial++
	}
	if want := count / tickets.Assignees; initial != want {
		t.Errorf("%d initial events, want %d", initial, want)
	}
	assign := func(n int, to string) error {
		_, err := board.Patch(ctx, tickets.Numbered(n).Name, types.MergePatchType, []byte(`{"spec":{"assignee":"`+to+`","title":"not by this way"}}`), metav1.PatchOptions{}, "assign")
		return err
	}
	for _, step := range []struct {
		ticket int
		to     string
		want   watch.EventType // none: not told
	}{
		{8, "person-7", watch.Added}, {9, "person-8", ""}, {8, "person-9", watch.Deleted}, {7, "person-1", watch.Deleted},
	} {
		if err := assign(step.ticket, step.to); err != nil {
			t.Fatal(err)
		}
		if step.want == "" {
			continue
		}
		kind, o := next()
		for kind == watch.Bookmark {
			kind, o = next()
		}
		if kind != step.want || o.GetName() != tickets.Numbered(step.ticket).Name {
			t.Errorf("ticket %d to %s: %s of %s, want %s of it", step.ticket, step.to, kind, o.GetName(), step.want)
		}
	}
	changed, err := board.Get(ctx, tickets.Numbered(8).Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if spec := fmt.Sprint(changed.Object["spec"]); strings.Contains(spec, "not by this way") {
		t.Errorf("assign changed the title: %s", spec)
	}
	if _, err := board.Patch(ctx, changed.GetName(), types.MergePatchType, []byte(`{"status":{"resolution":"done"}}`), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	if err := assign(8, "person-7"); !apierrors.IsInvalid(err) {
		t.Errorf("a ticket that is resolved is given away: %v, want that it is invalid", err)
	}
}
