package tickets

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	v1 "github.com/annex-api/annex/examples/tickets/v1"
)

// What Numbered tickets are shared out among.
const (
	// Teams is how many teams there are, and Assignees how many people.
	Teams, Assignees = 4, 100
	// HighEvery is of how many tickets one is of high priority.
	HighEvery = 10
	// seeders write at a time.
	seeders = 16
)

// Numbered is the ticket of a number; the same for the same number.
func Numbered(n int) *v1.Ticket {
	priority := v1.Normal
	if n%HighEvery == 0 {
		priority = v1.High
	}
	return &v1.Ticket{
		TypeMeta: metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: "Ticket"},
		ObjectMeta: metav1.ObjectMeta{
			Name:   fmt.Sprintf("ticket-%06d", n),
			Labels: map[string]string{v1.TeamLabel: fmt.Sprintf("team-%d", n%Teams)},
		},
		Spec: v1.TicketSpec{
			Title:    fmt.Sprintf("The thing number %d is broken", n),
			Priority: priority,
			Assignee: fmt.Sprintf("person-%d", n%Assignees),
		},
	}
}

// Seed makes the first count Numbered tickets in a namespace. Those that are there stay as they
// are, so that it can be called again.
func Seed(ctx context.Context, config *rest.Config, namespace string, count int) error {
	config = rest.CopyConfig(config)
	config.QPS = -1 // the server says when it is too much
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	board := client.Resource(v1.GroupVersion.WithResource("tickets")).Namespace(namespace)
	group, making := errgroup.WithContext(ctx)
	group.SetLimit(seeders)
	for n := range count {
		if making.Err() != nil {
			break // one has failed, or nobody waits for the others
		}
		group.Go(func() error {
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(Numbered(n))
			if err != nil {
				return fmt.Errorf("encode ticket %d: %w", n, err)
			}
			_, err = board.Create(making, &unstructured.Unstructured{Object: content}, metav1.CreateOptions{})
			if err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("create ticket %d: %w", n, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}
