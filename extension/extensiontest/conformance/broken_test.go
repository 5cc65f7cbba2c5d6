package conformance_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
	"github.com/annex-api/annex/extension/extensiontest/internal/broken"
)

// long checks wait for what comes once a minute: they are no part of these tests.
var long = []string{"watch/initial-events-once", "watch/slow-reader", "requests/slow-body"}

// TestNothingIsFoundWhereNothingIsWrong: the server without a fault passes every check, and what cannot
// be checked is known.
func TestNothingIsFoundWhereNothingIsWrong(t *testing.T) {
	target := broken.Start(t, broken.None).Target()
	target.Slow, target.Skip = true, long
	s := conformance.Run(t.Context(), target, nil)
	if s.Err != nil {
		t.Fatal(s.Err)
	}
	for _, r := range s.Failed() {
		t.Error(r.Explain())
	}
	for _, left := range s.Left {
		t.Errorf("left behind: %s", left)
	}
	var not []string
	for _, r := range s.Results {
		if r.Outcome == conformance.NotApplicable {
			not = append(not, r.Check.ID)
		}
	}
	if want := []string{"scale/get-put"}; !slices.Equal(not, want) {
		t.Errorf("not applicable: %v, want %v", not, want)
	}
}

// planted are the faults with their number, and the checks that find each.
var planted = []struct {
	fault  broken.Fault
	number int
	found  string
	only   string // where the fault leaves nothing else to check
}{
	{broken.NoInitialEventsEnd, 1, "watch/initial-events-end watch/list-equals-watchlist", ""},
	{broken.EndOnEveryBookmark, 1, "watch/bookmark-rv", ""},
	{broken.InitialEventLost, 1, "watch/initial-events-end watch/list-equals-watchlist", ""},
	{broken.WatchReplays, 2, "watch/from-rv watch/expired watch/bookmark-rv", ""},
	{broken.ExpiredIsSilent, 3, "watch/expired", ""},
	{broken.ListWithoutVersion, 3, "table/list list/resource-version list/rv-grows list/not-older-than list/exact watch/order", ""},
	{broken.VersionIsNoInteger, 3, "list/resource-version list/rv-grows list/not-older-than watch/order", ""},
	{broken.DeletedIsEmpty, 4, "watch/deleted-object watch/label-leave watch/deleted-selector delete/finalizer watch/field", ""},
	{broken.DeletedIsDropped, 4, "watch/deleted-object watch/label-leave watch/deleted-selector delete/finalizer watch/field", ""},
	{broken.DeletedUnfiltered, 4, "watch/deleted-selector watch/field", ""},
	{broken.SelectorsIgnored, 4, "watch/label-leave watch/label-enter watch/deleted-selector watch/field", ""},
	{broken.WatchNeverEnds, 5, "watch/timeout", ""},
	{broken.OpenAfterError, 5, "watch/error-event", ""},
	{broken.StuckAfterStop, 5, "watch/stop", "watch/stop"},
	{broken.GetUnauthorized, 6, "authz/get", ""},
	{broken.WatchUnauthorized, 6, "authz/watch", ""},
	{broken.LostUpdate, 7, "update/conflict update/concurrent patch/conflict", ""},
	{broken.ForeignMetadataWiped, 7, "update/foreign-metadata", ""},
	{broken.UntypedErrors, 7, "get/not-found create/exists errors/typed", ""},
	{broken.FinalizerIgnored, 7, "delete/finalizer delete/propagation", ""},
	{broken.ApplyInternalVersion, 8, "apply/create apply/own apply/conflict apply/force apply/remove apply/other-version", ""},
	{broken.NoAuthentication, 9, "authz/anonymous", ""},
	{broken.AdmissionPassedBy, 9, "admission/policy namespace/deletion", ""},
	{broken.NeverReady, 10, "ready/endpoint", "ready/*"},
	{broken.WritesNotReady, 10, "ready/writes", "ready/*"},
	{broken.NoOpenAPIV2, 11, "openapi/v2", ""},
	{broken.BadModel, 11, "openapi/v2", ""},
	{broken.ProtobufRefused, 12, "media/protobuf media/protobuf-metadata", ""},
	{broken.StreamCut, 13, "stream/long", ""},
	{broken.EmptyWhileDown, 14, "storage/down", ""},
	{broken.GenerationByLabels, 15, "generation/labels", ""},
	{broken.GenerationByStatus, 15, "generation/status", ""},
	{broken.CommonNameOnly, 16, "tls/sans", ""},
	{broken.CertificateSoonOver, 16, "tls/sans", ""},
	{broken.BundleNotRestored, 16, "tls/bundle-restored", "tls/*"},
	{broken.OtherVersionLosesData, 17, "versions/hub-only-field", ""},
}

// atOnce is how many servers are checked side by side: a check waits more than it works.
const atOnce = 12

// TestKitFindsEveryFault plants one fault after another: the checks that find it are those that name it,
// and no other check fails.
func TestKitFindsEveryFault(t *testing.T) {
	if testing.Short() {
		t.Skip("its forty runs of the kit take a minute and more; the long form of the tests makes them")
	}
	summaries := make([]conformance.Summary, len(planted))
	slots := make(chan struct{}, atOnce)
	var runs sync.WaitGroup
	for i, p := range planted {
		target := broken.Start(t, p.fault).Target()
		target.Slow, target.Skip = true, slices.Clone(long)
		target.Recovery = 3 * time.Second
		target.Name = "annex-conformance-tests"
		if p.only != "" {
			target.Only = []string{p.only}
		}
		if p.number != 5 {
			target.Skip = append(target.Skip, "watch/many") // many servers at once are busy enough
		}
		runs.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			summaries[i] = conformance.Run(t.Context(), target, nil)
		})
	}
	runs.Wait()
	words := ""
	numbers := map[int]bool{}
	for i, p := range planted {
		numbers[p.number] = true
		t.Run(string(p.fault), func(t *testing.T) {
			finds(t, summaries[i], p.number, strings.Fields(p.found))
			words += "== " + string(p.fault) + "\n" + said(summaries[i])
			for _, left := range summaries[i].Left {
				// Where writes do not work any more nothing can be removed.
				if p.only == "" {
					t.Errorf("left behind: %s", left)
				}
			}
		})
	}
	golden(t, "faults.txt", words)
	for fault := 1; fault <= conformance.Faults(); fault++ {
		if !numbers[fault] {
			t.Errorf("fault %d, %s, is planted by nothing", fault, conformance.FaultName(fault))
		}
	}
}

// finds fails unless the failed checks are those that are wanted, and all name the fault.
func finds(t *testing.T, s conformance.Summary, fault int, want []string) {
	if s.Err != nil {
		t.Fatal(s.Err)
	}
	var found []string
	for _, r := range s.Failed() {
		found = append(found, r.Check.ID)
		if !r.Check.Finds(fault) {
			t.Errorf("%s does not name fault %d and failed", r.Check.ID, fault)
		}
	}
	slices.Sort(found)
	slices.Sort(want)
	if !slices.Equal(found, want) {
		t.Errorf("it was found by %v, want %v", found, want)
	}
	if t.Failed() {
		for _, r := range s.Failed() {
			t.Log(r.Explain())
		}
	}
}

// varying is what differs from run to run: numbers, times and addresses.
var varying = regexp.MustCompile(`127\.0\.0\.1:\d+|(\d+m)?\d+(\.\d+)?(ms|µs|s)\b|\b\d{4,}\b|gave \d+:`)

// said are the words of the failures, in an order that stays.
func said(s conformance.Summary) string {
	lines := map[string]bool{}
	for _, r := range s.Failed() {
		for _, f := range r.Failures {
			lines[r.Check.ID+": "+varying.ReplaceAllString(f.Message, "N")+"\n"] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(lines)), "")
}
