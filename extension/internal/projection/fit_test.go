package projection

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// serving answers with services, which have namespaces or have not, or without them, or with
// an error.
type serving struct {
	mu         sync.Mutex // over what follows
	namespaced bool
	without    bool
	err        error
	asked      int
}

func (s *serving) resources(_ context.Context, gv schema.GroupVersion) (*metav1.APIResourceList, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	list := &metav1.APIResourceList{GroupVersion: gv.String(), APIResources: []metav1.APIResource{{Name: "others"}}}
	if !s.without {
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: "services", Namespaced: s.namespaced})
	}
	return list, s.err
}

// change has a function change it.
func (s *serving) change(how func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	how()
}

func TestFit(t *testing.T) {
	for name, c := range map[string]struct {
		sourceNamespaced, kindNamespaced bool
		namespace, want                  string
	}{
		"both with namespaces":             {true, true, "", ""},
		"both with namespaces, in one":     {true, true, "n", ""},
		"both without":                     {false, false, "", ""},
		"of one namespace, without":        {true, false, "n", ""},
		"of all namespaces, without":       {true, false, "", "Scope"},
		"without, in namespaces":           {false, true, "", "Scope"},
		"without, of one namespace":        {false, false, "n", "Source.Namespace"},
		"without, in namespaces, and one":  {false, true, "n", "Source.Namespace"},
		"with and of a namespace that is ": {true, true, "other", ""},
	} {
		from := &serving{namespaced: c.sourceNamespaced}
		s := newSource(func(config *Config) {
			config.Kind.Namespaced, config.Namespace, config.Resources = c.kindNamespaced, c.namespace, from.resources
		})
		err := s.Fit(t.Context())
		misfit := &MisfitError{}
		if got := errors.As(err, &misfit); got != (c.want != "") || misfit.Field != c.want || (err != nil) != got {
			t.Errorf("%s: %v", name, err)
		}
		if s.fits.Load() != (c.want == "") {
			t.Errorf("%s: it is taken for decided: %v", name, s.fits.Load())
		}
	}
}

// A source that cannot be asked, or does not fit, is asked again; the kind says why it has nothing.
func TestFollowerWaitsUntilTheSourceFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, storage := following(t)
		defer storage.Close()
		from := &serving{err: errors.New("connection refused")}
		f.source.Resources = from.resources
		done := make(chan bool)
		go func() { done <- f.awaitFit(t.Context()) }()
		for _, step := range []struct {
			change func()
			want   string
		}{
			{func() {}, "connection refused"},
			{func() { from.err, from.without = nil, true }, "services is not served"},
			{func() { from.without = false }, "Scope: services have no namespace"},
		} {
			synctest.Wait()
			from.change(step.change)
			time.Sleep(lastFit)
			if err := storage.ReadinessCheck(); err == nil || !strings.Contains(err.Error(), step.want) {
				t.Errorf("the kind is not ready because of %v, want %q", err, step.want)
			}
		}
		from.change(func() { from.namespaced = true })
		if !<-done {
			t.Error("it gave up")
		}
		if from.asked > 20 {
			t.Errorf("it asked %d times", from.asked)
		}
	})
}

func TestFollowerGoesOnWhereItMayNotAsk(t *testing.T) {
	f, storage := following(t)
	defer storage.Close()
	f.source.Resources = (&serving{err: apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("no"))}).resources
	if !f.awaitFit(t.Context()) {
		t.Error("it gave up")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	f.source.Resources = (&serving{err: errors.New("connection refused")}).resources
	if f.awaitFit(ended) {
		t.Error("it went on after its end")
	}
}
