package view

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/storage"

	"github.com/annex-api/annex/extension/internal/ring"
)

const (
	// patience is how long a request waits for a resourceVersion that is yet to come, as
	// long as the watch cache does.
	patience = 3 * time.Second
	// retryAfter is what a client is told afterwards, in seconds.
	retryAfter = 1
)

// need is what a request wants of the resourceVersion that it names.
type need int

const (
	// anything: none is named, or 0.
	anything need = iota
	// notOlder: what is there then or later.
	notOlder
	// exact: what was there then.
	exact
	// following: the events after it.
	following
	// page: what was there then, from a key on, by a token that can be replaced.
	page
)

// answer is what becomes of a request because of its resourceVersion.
type answer int

const (
	// serve it.
	serve answer = iota
	// expire it, with 410: list again.
	expire
	// wait, and then ask again.
	wait
	// tooLarge: refuse it with 504 and the cause ResourceVersionTooLarge.
	tooLarge
)

// decide is the table of what a resourceVersion gets. What is too old for a list that must
// not be older is served: the present is newer than it. Of one that is unknown nothing of the kind can be said.
func decide(n need, v ring.Verdict) answer {
	switch {
	case n == anything, v == ring.Known, n == notOlder && v == ring.TooOld:
		return serve
	case v == ring.TooOld, v == ring.Unknown, n == page:
		return expire
	case v == ring.Ahead:
		return wait
	}
	return tooLarge
}

// asked is what a request names.
type asked struct {
	need    need
	version uint64
	// from is the key at which a page begins, and prefix that of the list.
	from, prefix string
}

func ofVersion(n need, resourceVersion string) (asked, error) {
	version, err := storage.APIObjectVersioner{}.ParseResourceVersion(resourceVersion)
	if err != nil {
		return asked{}, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	if version == 0 {
		return asked{}, nil
	}
	return asked{need: n, version: version}, nil
}

// ofList says what a list names. A limit makes a legacy resourceVersion exact, as
// the API documents.
func ofList(o *metainternalversion.ListOptions, prefix string) (asked, error) {
	if o.Continue != "" {
		from, version, err := storage.DecodeContinue(o.Continue, prefix)
		switch {
		case err != nil:
			return asked{}, apierrors.NewBadRequest(fmt.Sprintf("invalid continue token: %v", err))
		case version < 0: // it goes on with what is there now
			return asked{}, nil
		}
		return asked{need: page, version: uint64(version), from: from, prefix: prefix}, nil
	}
	if o.ResourceVersionMatch == metav1.ResourceVersionMatchExact || o.ResourceVersionMatch == "" && o.Limit > 0 {
		return ofVersion(exact, o.ResourceVersion)
	}
	return ofVersion(notOlder, o.ResourceVersion)
}

// ofWatch says what a watch names. With initial events it is a list first.
func ofWatch(o *metainternalversion.ListOptions) (asked, error) {
	if withInitialEvents(o) {
		return ofVersion(notOlder, o.ResourceVersion)
	}
	return ofVersion(following, o.ResourceVersion)
}

func withInitialEvents(o *metainternalversion.ListOptions) bool {
	return o.SendInitialEvents != nil && *o.SendInitialEvents
}

// admit gives the error that a request gets because of its resourceVersion, if any.
func (r *Resource) admit(ctx context.Context, a asked) error {
	if a.need == anything {
		return nil
	}
	verdict, last := r.cache.Ring.Known(a.version)
	if decide(a.need, verdict) == wait {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		verdict, last = r.cache.Ring.WaitFor(ctx, a.version)
	}
	switch decide(a.need, verdict) {
	case serve:
		return nil
	case expire:
		if a.need == page {
			return ring.GoOnInconsistently(a.from, a.prefix)
		}
		return apierrors.NewResourceExpired(fmt.Sprintf("The resourceVersion %d is %s to this server: list again.", a.version, verdict))
	}
	return storage.NewTooLargeResourceVersionError(a.version, last, retryAfter)
}
