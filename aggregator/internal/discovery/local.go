package discovery

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/util/responsewriter"
	"k8s.io/client-go/discovery"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	// localInterval bounds the age of what is known of the local handler.
	localInterval = time.Second
	// localTimeout bounds how long clients wait for the local handler. After it they
	// get what is known.
	localTimeout = 5 * time.Second
)

// localGroups learns what the host's own handler serves, for hosts that have
// no APIServices for it. The handler is asked in process.
type localGroups struct {
	handler http.Handler
	manager aggregated.ResourceManager
	end     context.CancelFunc // of asking
	ended   context.Context
	asking  sync.WaitGroup

	mu        sync.Mutex
	asked     time.Time
	current   *localRequest // the one under way, or nil
	closed    bool
	groups    []apidiscoveryv2.APIGroupDiscovery
	published map[schema.GroupVersion]bool
}

// localRequest is one request to the local handler. Expired is closed when its time
// is over, and done when it has ended.
type localRequest struct {
	expired <-chan struct{}
	done    chan struct{}
}

func newLocalGroups(handler http.Handler, manager aggregated.ResourceManager) *localGroups {
	l := &localGroups{handler: handler, manager: manager, published: map[schema.GroupVersion]bool{}}
	l.ended, l.end = context.WithCancel(context.Background())
	return l
}

// close ends the request that is under way, waits for it, and makes no more.
func (l *localGroups) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end()
	l.asking.Wait()
}

func withSnapshot(ctx context.Context, s *catalog.Snapshot) context.Context {
	return context.WithValue(ctx, snapshotKey{}, s)
}

func snapshotFrom(ctx context.Context) *catalog.Snapshot {
	s, _ := ctx.Value(snapshotKey{}).(*catalog.Snapshot)
	return s
}

// refresh asks the handler unless that was done just now, and waits until it has
// answered, its time is over, or ctx ends. Requests that come meanwhile wait for the
// same answer.
func (l *localGroups) refresh(ctx context.Context) {
	request := l.start(ctx)
	if request == nil {
		return
	}
	select {
	case <-request.done:
	case <-request.expired:
	case <-ctx.Done():
	}
}

// start returns the request that is under way, or begins one, or returns nil where
// the last one is recent enough.
func (l *localGroups) start(ctx context.Context) *localRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != nil || l.closed || time.Since(l.asked) < localInterval {
		return l.current
	}
	l.asked = time.Now()
	// The answer is for all who wait, so it does not end with who was first.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), localTimeout)
	stop := context.AfterFunc(l.ended, cancel)
	request := &localRequest{expired: ctx.Done(), done: make(chan struct{})}
	l.current = request
	l.asking.Go(func() {
		defer close(request.done)
		defer cancel()
		defer stop()
		groups, ok := l.askSafely(ctx)
		l.learn(groups, ok && ctx.Err() == nil)
	})
	return request
}

// learn takes over an answer. A handler without discovery, or that did not answer in
// time, leaves what is known as it is.
func (l *localGroups) learn(groups []apidiscoveryv2.APIGroupDiscovery, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = nil
	if !ok {
		return
	}
	l.groups = groups
	seen := map[schema.GroupVersion]bool{}
	for _, g := range groups {
		for _, v := range g.Versions {
			gv := schema.GroupVersion{Group: g.Name, Version: v.Version}
			seen[gv] = true
			l.manager.AddGroupVersion(g.Name, v) // does nothing where it is the same
		}
	}
	for gv := range l.published {
		if !seen[gv] {
			l.manager.RemoveGroupVersion(metav1.GroupVersion(gv))
		}
	}
	l.published = seen
}

// appendTo adds the local groups and versions that the list lacks.
func (l *localGroups) appendTo(list []metav1.APIGroup) []metav1.APIGroup {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.groups {
		if len(g.Versions) == 0 {
			continue
		}
		i := slices.IndexFunc(list, func(known metav1.APIGroup) bool { return known.Name == g.Name })
		if i < 0 {
			list = append(list, metav1.APIGroup{Name: g.Name})
			i = len(list) - 1
		}
		for _, v := range g.Versions {
			item := metav1.GroupVersionForDiscovery{GroupVersion: g.Name + "/" + v.Version, Version: v.Version}
			if !slices.Contains(list[i].Versions, item) {
				list[i].Versions = append(list[i].Versions, item)
			}
		}
		if list[i].PreferredVersion.Version == "" {
			list[i].PreferredVersion = list[i].Versions[0]
		}
	}
	return list
}

// askSafely is ask for a goroutine of ours, which a handler that panics must not end
// the process by.
func (l *localGroups) askSafely(ctx context.Context) (groups []apidiscoveryv2.APIGroupDiscovery, ok bool) {
	defer func() {
		if r := recover(); r != nil {
			klog.FromContext(ctx).Error(fmt.Errorf("panic: %v", r), "Asking the local handler for what it serves")
			groups, ok = nil, false
		}
	}()
	return l.ask(ctx)
}

func (l *localGroups) ask(ctx context.Context) ([]apidiscoveryv2.APIGroupDiscovery, bool) {
	got := l.get(ctx, "/apis", discovery.AcceptV2+",application/json")
	if got.code != http.StatusOK {
		return nil, false
	}
	v2, _ := discovery.ContentTypeIsGVK(got.contentType, apidiscoveryv2.SchemeGroupVersion.WithKind("APIGroupDiscoveryList"))
	if v2 {
		list := apidiscoveryv2.APIGroupDiscoveryList{}
		if err := json.Unmarshal(got.body, &list); err != nil {
			klog.FromContext(ctx).Error(err, "Reading the local discovery document")
			return nil, false
		}
		return list.Items, true
	}
	list := metav1.APIGroupList{}
	if err := json.Unmarshal(got.body, &list); err != nil {
		klog.FromContext(ctx).Error(err, "Reading the local group list")
		return nil, false
	}
	var groups []apidiscoveryv2.APIGroupDiscovery
	for _, g := range list.Groups {
		group := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.Name}}
		for _, v := range g.Versions {
			group.Versions = append(group.Versions, l.version(ctx, v))
		}
		groups = append(groups, group)
	}
	return groups, true
}

func (l *localGroups) version(ctx context.Context, v metav1.GroupVersionForDiscovery) apidiscoveryv2.APIVersionDiscovery {
	stale := apidiscoveryv2.APIVersionDiscovery{Version: v.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessStale}
	got := l.get(ctx, "/apis/"+v.GroupVersion, "application/json")
	list := metav1.APIResourceList{}
	if got.code != http.StatusOK || json.Unmarshal(got.body, &list) != nil {
		return stale
	}
	resources, err := endpoints.ConvertGroupVersionIntoToDiscovery(list.APIResources)
	if err != nil {
		return stale
	}
	return apidiscoveryv2.APIVersionDiscovery{
		Version: v.Version, Resources: resources, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
	}
}

// answer is what the handler wrote.
type answer struct {
	code        int
	contentType string
	body        []byte
}

// get asks the handler in process. An answer without a status code means that the
// request could not be built.
func (l *localGroups) get(ctx context.Context, path, accept string) answer {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return answer{}
	}
	r.Header.Set("Accept", accept)
	w := responsewriter.NewInMemoryResponseWriter()
	l.handler.ServeHTTP(w, r)
	return answer{code: w.RespCode(), contentType: w.Header().Get("Content-Type"), body: w.Data()}
}
