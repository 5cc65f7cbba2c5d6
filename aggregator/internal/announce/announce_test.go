package announce

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// stage is an Announcer with what it looks at and what it has said.
type stage struct {
	announcer *Announcer

	mu          sync.Mutex
	views       []View
	reports     bool
	log, events []string
}

func (s *stage) Event(about runtime.Object, eventType, reason, message string) {
	ref := about.(*corev1.ObjectReference)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, fmt.Sprintf("%s %s/%s %s %s: %s", eventType, ref.Kind, ref.Name, ref.UID, reason, message))
}

// play runs an Announcer in a time of its own.
func play(t *testing.T, scene func(*stage)) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		s.announcer = New(Config{
			Look: func() []View {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.views
			},
			Reports: func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.reports
			},
			Events: s,
		})
		logger := funcr.New(func(_, line string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.log = append(s.log, line)
		}, funcr.Options{})
		ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), logger))
		var running sync.WaitGroup
		running.Go(func() { s.announcer.Run(ctx) })
		scene(s)
		cancel()
		running.Wait()
	})
}

// set changes what is to be seen, and waits until that was looked at.
func (s *stage) set(reports bool, views ...View) {
	s.mu.Lock()
	s.views, s.reports = views, reports
	s.mu.Unlock()
	s.announcer.Wake()
	time.Sleep(2 * minPause)
	synctest.Wait()
}

// take returns what was said since the last time.
func (s *stage) take() (log, events []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	log, events = s.log, s.events
	s.log, s.events = nil, nil
	return log, events
}

func view(name string, stored apiregistrationv1.ConditionStatus, state State) View {
	o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)}}
	if stored != "" {
		o.Status.Conditions = []apiregistrationv1.APIServiceCondition{{Type: apiregistrationv1.Available, Status: stored}}
	}
	v := View{Object: o, State: state, Reason: "Passed", Message: "all checks passed"}
	switch state {
	case Unavailable:
		v.Reason, v.Message = "FailedDiscoveryCheck", "failing or missing response"
	case Degraded:
		v.Reason, v.Message = "EndpointEjected", "1 of 2 endpoints is left out"
	}
	return v
}

const yes, no = apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionFalse

func TestEachChangeIsSaidOnce(t *testing.T) {
	play(t, func(s *stage) {
		for i, c := range []struct {
			state State
			log   string
			event string
		}{
			{Unknown, "", ""},
			{Healthy, "", ""}, // as it should be
			{Healthy, "", ""},
			{
				Unavailable, `"msg"="APIService is unavailable" "apiService"="a" "was"="Healthy" "reason"="FailedDiscoveryCheck" "message"="failing or missing response"`,
				"Warning APIService/a uid-a FailedDiscoveryCheck: APIService is unavailable: failing or missing response",
			},
			{Unavailable, "", ""},
			{Unknown, "", ""},
			{Unavailable, "", ""},
			{
				Degraded, `"APIService is available, and something is wrong"`,
				"Warning APIService/a uid-a EndpointEjected: APIService is available, and something is wrong: 1 of 2 endpoints is left out",
			},
			{Healthy, `"was"="Degraded"`, "Normal APIService/a uid-a Passed: APIService is available: all checks passed"},
		} {
			s.set(true, view("a", yes, c.state))
			log, events := s.take()
			if c.log == "" && len(log) != 0 || c.log != "" && (len(log) != 1 || !strings.Contains(log[0], c.log)) {
				t.Errorf("step %d: the log says %q, want %q", i, log, c.log)
			}
			if c.event == "" && len(events) != 0 || c.event != "" && !slices.Equal(events, []string{c.event}) {
				t.Errorf("step %d: got %q, want %q", i, events, c.event)
			}
		}
	})
}

// What is wrong for a moment is nobody's business.
func TestWhatIsWrongForAMomentIsNotSaid(t *testing.T) {
	play(t, func(s *stage) {
		s.set(true, view("a", yes, Healthy))
		for range 20 {
			s.set(true, view("a", yes, Degraded))
			time.Sleep(degradedAfter / 2)
			s.set(true, view("a", yes, Healthy))
		}
		if log, events := s.take(); len(log) != 0 || len(events) != 0 {
			t.Errorf("logged %q and wrote %q", log, events)
		}
		s.set(true, view("a", yes, Degraded))
		time.Sleep(degradedAfter + minPause)
		synctest.Wait()
		if log, events := s.take(); len(log) != 1 || len(events) != 1 {
			t.Errorf("of what lasts it logged %q and wrote %q", log, events)
		}
	})
}

// Whoever begins to report says what the condition does not say yet, and nothing that
// another server has said.
func TestTheNextReporterGoesOnWhereTheLastOneEnded(t *testing.T) {
	play(t, func(s *stage) {
		s.set(false, view("told", no, Unavailable), view("untold", yes, Unavailable), view("new", "", Unavailable), view("mended", no, Healthy))
		if log, events := s.take(); len(log) != 3 || len(events) != 0 {
			t.Errorf("who does not report logged %q and wrote %q", log, events)
		}
		own := view("own", no, Unavailable) // its condition was written here, before it was looked at
		own.Object.Status.Conditions[0].LastTransitionTime = metav1.NewTime(time.Now().Add(minPause))
		s.set(true, view("told", no, Unavailable), view("untold", yes, Unavailable), view("new", "", Unavailable), view("mended", no, Healthy), own)
		log, events := s.take()
		var about []string
		for _, e := range events {
			about = append(about, strings.Fields(e)[1])
		}
		if want := []string{"APIService/untold", "APIService/new", "APIService/mended", "APIService/own"}; len(log) != 1 || !slices.Equal(about, want) {
			t.Errorf("logged %q, Events about %q, want %q", log, about, want)
		}
	})
}

// An APIService that flaps is told of so often; in the end what it is has been said.
func TestChangesAreBounded(t *testing.T) {
	play(t, func(s *stage) {
		for range 100 {
			s.set(true, view("a", yes, Healthy))
			s.set(true, view("a", yes, Unavailable))
		}
		log, events := s.take()
		// 400 s have passed.
		if len(log) < changesOfOne || len(log) > 2*changesOfOne+4 || len(events) != len(log) {
			t.Errorf("%d lines and %d Events", len(log), len(events))
		}
		time.Sleep(changePeriod)
		synctest.Wait()
		later, _ := s.take()
		if log = append(log, later...); !strings.Contains(log[len(log)-1], "unavailable") {
			t.Errorf("the last word is %q", log[len(log)-1])
		}
		s.set(true) // gone
		if n := len(s.announcer.logged.of) + len(s.announcer.reported.of); n != 0 {
			t.Errorf("%d are remembered that are gone", n)
		}
	})
}

func TestMessagesArePrintableAndBounded(t *testing.T) {
	play(t, func(s *stage) {
		v := view("a", yes, Unavailable)
		v.Message = "\x1b[2J" + strings.Repeat("x", 4<<20)
		s.set(true, v)
		log, events := s.take()
		for _, said := range append(log, events...) {
			if len(said) > 2*maxMessage || strings.Contains(said, "\x1b") || strings.Contains(said, `\u001b`) {
				t.Errorf("%d bytes: %.200q", len(said), said)
			}
		}
	})
}
