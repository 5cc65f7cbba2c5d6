package aggregator

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
	kubefake "k8s.io/client-go/kubernetes/fake"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	registrationfake "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/fake"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// A Source that fails ends Run, with its error and with everything that Run
// began, at a server that answers and at one that hangs.
func TestAFailingSourceEndsRun(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	good := backendtest.Start(t, "good", &extension{gv: "good.example/v1", resource: "things"})
	asked := make(chan struct{}, 1)
	hung := backendtest.Start(t, "hung", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	}))
	objects := []*apiregistrationv1.APIService{good.APIService("v1.good.example"), hung.APIService("v1.hung.example")}
	broken, fail := errors.New("the registry is gone"), make(chan struct{})
	a, err := New(Config{
		Source: sourceFunc(func(_ context.Context, publish func(State)) error {
			publish(state(objects, good, hung))
			<-fail
			return broken
		}),
		Addressing: EndpointAddresses,
		Memory:     &memory{documents: map[string][]byte{}},
		Metrics:    NewMetrics(),
		Status:     &StatusConfig{Client: registrationfake.NewClientset().ApiregistrationV1()},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	<-a.Routes()
	<-asked
	close(fail)
	if err := <-ended; !errors.Is(err, broken) || !strings.Contains(err.Error(), "running the Source") {
		t.Errorf("Run returned %v", err)
	}
	a.StopReporting(t.Context()) // returns
	good.Close()
	hung.Close()
	goleak.VerifyNone(t, ignore)
}

func TestHowASourceEndsIsHowRunEnds(t *testing.T) {
	own := errors.New("its own")
	for what, c := range map[string]struct {
		source func(ctx context.Context, end func()) error // calls end to end Run's context
		want   error
		says   string
	}{
		"with its context":              {func(ctx context.Context, end func()) error { end(); <-ctx.Done(); return ctx.Err() }, context.Canceled, "context canceled"},
		"with its context, in silence":  {func(ctx context.Context, end func()) error { end(); <-ctx.Done(); return nil }, context.Canceled, "context canceled"},
		"with an error at the very end": {func(ctx context.Context, end func()) error { end(); <-ctx.Done(); return own }, own, "aggregator: running the Source: its own"},
		"too early, in silence":         {func(context.Context, func()) error { return nil }, nil, "aggregator: the Source ended before its context"},
		"too early, as if cancelled":    {func(context.Context, func()) error { return context.Canceled }, context.Canceled, "aggregator: running the Source: context canceled"},
	} {
		t.Run(what, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			a, err := New(Config{Source: sourceFunc(func(ctx context.Context, _ func(State)) error { return c.source(ctx, cancel) })})
			if err != nil {
				t.Fatal(err)
			}
			err = a.Run(ctx)
			if err == nil || err.Error() != c.says || (c.want != nil && !errors.Is(err, c.want)) {
				t.Errorf("Run returned %v, want %s", err, c.says)
			}
		})
	}
}

// A status writer that cannot begin is not silent: nobody would write conditions.
func TestAFailingStatusWriterEndsRun(t *testing.T) {
	broken := errors.New("no namespace")
	a, err := New(Config{
		Source: NewStaticSource(State{}),
		Status: &StatusConfig{
			Client: registrationfake.NewClientset().ApiregistrationV1(), Leases: kubefake.NewClientset().CoordinationV1(),
			Namespace: "kube-system", Name: "status", Identity: "me",
			Ready: func(context.Context) error { return broken },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "writing conditions") {
		t.Errorf("Run returned %v", err)
	}
}
