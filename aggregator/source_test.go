package aggregator

import (
	"context"
	"errors"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

func TestStaticSource(t *testing.T) {
	first, second := State{}, State{APIServices: []*apiregistrationv1.APIService{(&backendtest.Server{Service: "api"}).APIService("v1.a.example")}}
	s := NewStaticSource(first)
	published := make(chan State, 200)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, func(s State) { published <- s }) }()
	if got := <-published; len(got.APIServices) != 0 {
		t.Errorf("the first state: %+v", got)
	}
	for range 100 {
		s.Set(first)
	}
	s.Set(second)
	for len((<-published).APIServices) != 1 { // the last of many comes
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

// A host that has no Services is not taken for one that has none of those named.
func TestNoServicesAreNotAnEmptyListOfThem(t *testing.T) {
	if got := (State{}).services(); got != nil {
		t.Errorf("without Services: %v", got)
	}
	if got := (State{Services: map[types.NamespacedName]ServiceFacts{}}).services(); got == nil {
		t.Error("with Services, none of them named: nil")
	}
	broken := errors.New("broken")
	name := types.NamespacedName{Namespace: "a", Name: "b"}
	got := State{Services: map[types.NamespacedName]ServiceFacts{name: {Err: broken, SlicesErr: broken}}}.services()
	if len(got) != 1 || got[name].Err == nil || got[name].SlicesErr == nil {
		t.Errorf("%v", got)
	}
}
