// Package discovery merges what extension servers offer into /apis and serves
// it.
package discovery

import (
	"net/http"
	"reflect"
	"sync"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	genericfeatures "k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// Config of a Service.
type Config struct {
	// Manager holds the aggregated document of this host. Nil means that the
	// host has none: then Local is asked for what it serves.
	Manager aggregated.ResourceManager
	// Peers serves the document merged with those of peer API servers.
	Peers http.Handler
	// First are groups that stand before all others, and Last those behind them. No snapshot
	// has them.
	First, Last []metav1.APIGroup
	// Local is used where Manager is nil.
	Local http.Handler
}

// Service serves /apis and /apis/<group>.
type Service struct {
	first, last []metav1.APIGroup
	remote      aggregated.ResourceManager
	codecs      serializer.CodecFactory
	local       *localGroups

	aggregated http.Handler // picks by Accept
	plain      variantCache[*catalog.Snapshot]

	mu        sync.Mutex
	published map[schema.GroupVersion]entry
}

// entry is what was handed to the manager last.
type entry struct {
	value                          apidiscoveryv2.APIVersionDiscovery
	groupPriority, versionPriority int32
}

// New returns a Service that knows no extension servers yet.
func New(config Config) *Service {
	s := &Service{first: config.First, last: config.Last, codecs: newCodecs(), published: map[schema.GroupVersion]entry{}}
	s.plain.limit = maxCached
	manager := config.Manager
	if manager == nil {
		manager = aggregated.NewResourceManager("apis")
		if config.Local != nil {
			s.local = newLocalGroups(config.Local, manager)
		}
	}
	s.remote = manager.WithSource(aggregated.AggregatorSource)
	peers := config.Peers
	if peers != nil {
		peers = newCachingHandler(peers)
	}
	s.aggregated = aggregated.WrapAggregatedDiscoveryToHandler(http.HandlerFunc(s.serveGroupList), newCachingHandler(manager), peers)
	return s
}

func newCodecs() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	v1 := schema.GroupVersion{Version: "v1"}
	metav1.AddToGroupVersion(scheme, v1)
	scheme.AddUnversionedTypes(v1, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
	return codecsFor(scheme)
}

// codecsFor encodes as JSON, YAML and protobuf, and as CBOR where the host
// does (k8s.io/kube-aggregator/pkg/apiserver).
func codecsFor(scheme *runtime.Scheme) serializer.CodecFactory {
	var options []serializer.CodecFactoryOptionsMutator
	if utilfeature.DefaultFeatureGate.Enabled(genericfeatures.CBORServingAndStorage) {
		options = append(options, serializer.WithSerializer(cbor.NewSerializerInfo))
	}
	return serializer.NewCodecFactory(scheme, options...)
}

// Close ends what is asked of the local handler, waits for it, and asks no more:
// what is known of it stays.
func (s *Service) Close() {
	if s.local != nil {
		s.local.close()
	}
}

// Sync publishes the documents of the snapshot. A group version that was
// remote and no longer is shows the built-in or CRD document again, if any.
func (s *Service) Sync(snapshot *catalog.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[schema.GroupVersion]bool{}
	for _, a := range snapshot.Remotes() {
		if a.Group == "" {
			continue // /api has its own document
		}
		gv := a.GroupVersion()
		seen[gv] = true
		s.publish(gv, entry{value: document(a), groupPriority: a.GroupPriorityMinimum, versionPriority: a.VersionPriority})
	}
	for gv := range s.published {
		if !seen[gv] {
			s.remote.RemoveGroupVersion(metav1.GroupVersion(gv))
			delete(s.published, gv)
		}
	}
}

func (s *Service) publish(gv schema.GroupVersion, e entry) {
	old, known := s.published[gv]
	if known && reflect.DeepEqual(old, e) {
		return
	}
	s.published[gv] = e
	if !known || !reflect.DeepEqual(old.value, e.value) {
		s.remote.AddGroupVersion(gv.Group, e.value)
	}
	if !known || old.groupPriority != e.groupPriority || old.versionPriority != e.versionPriority {
		s.remote.SetGroupVersionPriority(metav1.GroupVersion(gv), int(e.groupPriority), int(e.versionPriority))
	}
}

// document is what is last known of an APIService, marked Stale where the last
// download failed.
func document(a *catalog.APIService) apidiscoveryv2.APIVersionDiscovery {
	value := apidiscoveryv2.APIVersionDiscovery{Version: a.Version}
	if a.Document.Discovery != nil {
		value = *a.Document.Discovery
	}
	value.Freshness = apidiscoveryv2.DiscoveryFreshnessCurrent
	if a.Document.Discovery == nil || a.Document.Stale {
		value.Freshness = apidiscoveryv2.DiscoveryFreshnessStale
	}
	return value
}

// snapshotKey carries the request's snapshot past the negotiation.
type snapshotKey struct{}

// ServeGroupList answers /apis.
func (s *Service) ServeGroupList(w http.ResponseWriter, r *http.Request, snapshot *catalog.Snapshot) {
	if s.local != nil {
		s.local.refresh(r.Context())
	}
	if r.URL.Path != "/apis" {
		s.writeGroupList(w, r, snapshot) // /apis/ has the plain list only
		return
	}
	s.aggregated.ServeHTTP(w, r.WithContext(withSnapshot(r.Context(), snapshot)))
}

func (s *Service) serveGroupList(w http.ResponseWriter, r *http.Request) {
	s.writeGroupList(w, r, snapshotFrom(r.Context()))
}

// writeGroupList writes the plain list. A snapshot never changes, so its list is
// encoded once for each variant. What the host's own handler adds is not part of it,
// and is encoded each time.
func (s *Service) writeGroupList(w http.ResponseWriter, r *http.Request, snapshot *catalog.Snapshot) {
	v, ok := variantOf(r, s.codecs, negotiation.DefaultEndpointRestrictions)
	if !ok || s.local != nil || len(w.Header()["Vary"]) > 0 {
		s.encodeGroupList(w, r, snapshot)
		return
	}
	cached, of := s.plain.get(v)
	if cached == nil || of != snapshot {
		encoded := recorder{}
		encoded.run(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.encodeGroupList(w, r, snapshot)
		}), r)
		cached = &encoded.reply
		if cached.code == http.StatusOK {
			s.plain.put(snapshot, v, cached)
		}
	}
	cached.send(w, r)
}

func (s *Service) encodeGroupList(w http.ResponseWriter, r *http.Request, snapshot *catalog.Snapshot) {
	list := &metav1.APIGroupList{Groups: append([]metav1.APIGroup{}, s.first...)}
	for _, g := range snapshot.Groups() {
		list.Groups = append(list.Groups, groupOf(g))
	}
	if s.local != nil {
		list.Groups = s.local.appendTo(list.Groups)
	}
	list.Groups = append(list.Groups, s.last...)
	s.write(w, r, list)
}

// ServeGroup answers /apis/<group>.
func (s *Service) ServeGroup(w http.ResponseWriter, r *http.Request, g *catalog.Group) {
	group := groupOf(g)
	s.write(w, r, &group)
}

func groupOf(g *catalog.Group) metav1.APIGroup {
	group := metav1.APIGroup{Name: g.Name}
	for _, a := range g.Versions {
		group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{
			GroupVersion: a.GroupVersion().String(), Version: a.Version,
		})
	}
	group.PreferredVersion = group.Versions[0]
	return group
}

func (s *Service) write(w http.ResponseWriter, r *http.Request, object runtime.Object) {
	responsewriters.WriteObjectNegotiated(s.codecs, negotiation.DefaultEndpointRestrictions, schema.GroupVersion{}, w, r, http.StatusOK, object, false)
}
