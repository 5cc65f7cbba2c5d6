// Package announce says each change of state of an APIService once: by a line in the log of
// every server that sees it, and by an Event of the one that reports for all of them.
package announce

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/pace"
	"github.com/annex-api/annex/internal/printable"
)

const (
	// minPause is the least time from one look to the next: what changes twice within it
	// is no change.
	minPause = time.Second
	// maxMessage bounds what is said of a change, in bytes.
	maxMessage = 1000
)

// View is an APIService as this server sees it now.
type View struct {
	// Object is the APIService that Events are about.
	Object  *apiregistrationv1.APIService
	State   State
	Reason  string
	Message string
}

// Recorder writes Events; record.EventRecorder of k8s.io/client-go is one. It must not
// block.
type Recorder interface {
	Event(about runtime.Object, eventType, reason, message string)
}

// Config of an Announcer.
type Config struct {
	// Look returns all remote APIServices.
	Look func() []View
	// Reports says whether this server is the one that writes Events. Nil means that none is.
	Reports func() bool
	// Events may be nil: then there are none.
	Events Recorder
}

// Announcer says what has changed.
type Announcer struct {
	config Config
	wake   chan struct{} // one slot

	// Of the goroutine that runs.
	logged, reported *said
}

// New returns an Announcer that says nothing until Run.
func New(config Config) *Announcer {
	return &Announcer{config: config, wake: make(chan struct{}, 1), logged: newSaid(unknownBefore)}
}

// Wake has the Announcer look for changes soon. It does not block.
func (a *Announcer) Wake() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Run says what changes until ctx ends.
func (a *Announcer) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		}
		wait := a.announce(ctx, time.Now())
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
		if !pace.Wait(ctx, minPause, nil) {
			return
		}
	}
}

// announce says what has changed since the last time, and returns how long until there is
// more to say; zero for never.
func (a *Announcer) announce(ctx context.Context, now time.Time) time.Duration {
	views := a.config.Look()
	changes, wait := a.logged.changes(now, views)
	for _, c := range changes {
		klog.FromContext(ctx).Info("APIService "+c.State.is(), "apiService", c.Object.Name,
			"was", c.before, "reason", c.Reason, "message", printable.Line(c.Message, maxMessage))
	}
	if a.config.Events == nil || a.config.Reports == nil || !a.config.Reports() {
		a.reported = nil
		return wait
	}
	if a.reported == nil { // another server may have reported until now
		a.reported = newSaid(conditionBefore(now))
	}
	changes, later := a.reported.changes(now, views)
	for _, c := range changes {
		kind, reason := corev1.EventTypeWarning, c.Reason
		if c.State == Healthy {
			kind = corev1.EventTypeNormal
		}
		message := "APIService " + c.State.is()
		if c.Message != "" {
			message += ": " + c.Message
		}
		a.config.Events.Event(&corev1.ObjectReference{
			APIVersion: apiregistrationv1.SchemeGroupVersion.String(), Kind: "APIService",
			Name: c.Object.Name, UID: c.Object.UID, ResourceVersion: c.Object.ResourceVersion,
		}, kind, reason, printable.Line(message, maxMessage))
	}
	return shorter(wait, later)
}

// shorter is the shorter of two waits, where zero is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
