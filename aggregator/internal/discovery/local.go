package discovery

import (
	"context"
	"encoding/json"
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

// localInterval bounds the age of what is known of the local handler.
const localInterval = time.Second

// localGroups learns what the host's own handler serves, for hosts that have
// no APIServices for it. The handler is asked in process.
type localGroups struct {
	handler http.Handler
	manager aggregated.ResourceManager

	mu        sync.Mutex
	asked     time.Time
	groups    []apidiscoveryv2.APIGroupDiscovery
	published map[schema.GroupVersion]bool
}

func newLocalGroups(handler http.Handler, manager aggregated.ResourceManager) *localGroups {
	return &localGroups{handler: handler, manager: manager, published: map[schema.GroupVersion]bool{}}
}

func withSnapshot(ctx context.Context, s *catalog.Snapshot) context.Context {
	return context.WithValue(ctx, snapshotKey{}, s)
}

func snapshotFrom(ctx context.Context) *catalog.Snapshot {
	s, _ := ctx.Value(snapshotKey{}).(*catalog.Snapshot)
	return s
}

// refresh asks the handler unless that was done just now. A handler without
// discovery leaves what is known as it is.
func (l *localGroups) refresh(ctx context.Context) {
	l.mu.Lock()
	due := time.Since(l.asked) >= localInterval
	if due {
		l.asked = time.Now()
	}
	l.mu.Unlock()
	if !due {
		return
	}
	groups, ok := l.ask(context.WithoutCancel(ctx))
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
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
