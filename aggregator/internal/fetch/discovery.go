package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	apidiscoveryconversion "k8s.io/apiserver/pkg/apis/apidiscovery/v2"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/client-go/discovery"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/document"
)

// maxDiscoveryTokens bounds what a discovery document holds, see
// document.WellFormed. A resource has some 30.
const maxDiscoveryTokens = 200_000

var (
	listV1 = schema.GroupVersionKind{Version: "v1", Kind: "APIResourceList"}
	listV2 = apidiscoveryv2.SchemeGroupVersion.WithKind("APIGroupDiscoveryList")
	codecs = newCodecs()
)

func newCodecs() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	utilruntime.Must(apidiscoveryv2.AddToScheme(scheme))
	utilruntime.Must(apidiscoveryconversion.RegisterConversions(scheme))
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	scheme.AddUnversionedTypes(schema.GroupVersion{Version: "v1"}, &metav1.Status{}, &metav1.APIResourceList{})
	return serializer.NewCodecFactory(scheme)
}

// discoveryState belongs to one server's discovery loop.
type discoveryState struct {
	etag string
}

// discovery downloads once for all members: one request where the server
// speaks aggregated discovery, one for each group version where it does not.
// It reports whether all of them are known and current.
func (f *Fetcher) discovery(loop context.Context, members []*catalog.APIService, state *discoveryState) bool {
	ctx, cancel := context.WithTimeout(loop, f.discoveryTimeout(members))
	defer cancel()
	b := f.backends.Get(members[0])
	call := backend.Call{
		As: backend.Aggregator, Path: "/apis", Accept: discovery.AcceptV2,
		IfNoneMatch: state.etag, Limit: maxDiscovery,
	}
	reply, err := f.get(ctx, b, members[0].Target, call)
	if err == nil && reply.StatusCode == http.StatusServiceUnavailable {
		err = fmt.Errorf("service %s returned non-success response code: %v", members[0].Service, reply.StatusCode)
	}
	if err == nil && reply.StatusCode == http.StatusNotModified && state.etag != "" {
		return f.confirm(loop, members)
	}
	var all map[schema.GroupVersion]found
	if err == nil && reply.StatusCode == http.StatusOK && isAggregated(reply.ContentType) {
		all, err = document.Guarded(func() (map[schema.GroupVersion]found, error) { return parseAggregated(reply.Body) })
	}
	if err != nil {
		state.etag = ""
		for _, a := range members {
			f.updateFailed(loop, a, err)
		}
		return false
	}
	complete := true
	for _, a := range members {
		gv := all[a.GroupVersion()]
		if gv.entry == nil {
			gv = f.legacyDiscovery(ctx, b, a)
		}
		if gv.err != nil {
			f.updateFailed(loop, a, gv.err)
			complete = false
			continue
		}
		f.update(loop, a, func(d *catalog.Document) {
			if d.Discovery == nil || !reflect.DeepEqual(d.Discovery, gv.entry) {
				d.Discovery = gv.entry
			}
			d.Stale, d.Problem, d.Warning = false, "", gv.warning
		})
		f.note(loop, a, discoveryOf, nil)
	}
	state.etag = ""
	if complete && all != nil {
		state.etag = reply.ETag
	}
	return complete
}

// discoveryTimeout is the longest that any of the members allows: one download is
// for all of them.
func (f *Fetcher) discoveryTimeout(members []*catalog.APIService) time.Duration {
	longest := time.Duration(0)
	for _, a := range members {
		timeout := f.timing.DiscoveryTimeout
		if own := a.Settings.DiscoveryTimeout; own > 0 {
			timeout = own
		}
		longest = max(longest, timeout)
	}
	return longest
}

func (f *Fetcher) updateFailed(loop context.Context, a *catalog.APIService, err error) {
	f.update(loop, a, func(d *catalog.Document) { d.Stale, d.Problem = true, backend.ErrorText(err) })
	f.note(loop, a, discoveryOf, err)
}

// confirm marks what is known as current, because the server said so.
func (f *Fetcher) confirm(loop context.Context, members []*catalog.APIService) bool {
	for _, a := range members {
		f.update(loop, a, func(d *catalog.Document) { d.Stale, d.Problem = false, "" })
		f.note(loop, a, discoveryOf, nil)
	}
	return true
}

func (f *Fetcher) get(ctx context.Context, b *backend.Backend, t catalog.Target, c backend.Call) (backend.Reply, error) {
	if err := b.Err(); err != nil {
		return backend.Reply{}, err
	}
	choice, err := b.Pick(t)
	if err != nil {
		return backend.Reply{}, err
	}
	reply, err := b.Get(ctx, choice.Address, c)
	outcome := balance.Answered
	if err != nil {
		outcome = balance.Neutral // an oversized document says nothing about the connection
	}
	choice.Done(time.Now(), outcome)
	return reply, err
}

func isAggregated(contentType string) bool {
	v2, _ := discovery.ContentTypeIsGVK(contentType, listV2)
	return v2
}

// isKind refuses what is not a JSON object of that kind. The decoders read anything
// else as an empty list, which would replace what is known. A list that names no kind
// is one where it has the content of one; named says whether it does.
func isKind(body []byte, kind string) (named bool, err error) {
	if err := document.WellFormed(body, maxDiscoveryTokens); err != nil {
		return false, err
	}
	var head struct {
		Kind      json.RawMessage `json:"kind"`
		Items     isList          `json:"items"`
		Resources isList          `json:"resources"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return false, err
	}
	if head.Kind == nil {
		head.Kind = json.RawMessage(`""`)
	}
	var is *string
	if err := json.Unmarshal(head.Kind, &is); err != nil {
		return false, fmt.Errorf("reading its kind: %w", err)
	}
	switch {
	case is == nil:
		return false, errors.New("its kind is null")
	case *is == kind:
		return true, nil
	case *is == "" && (kind == listV2.Kind && bool(head.Items) || kind == listV1.Kind && bool(head.Resources)):
		return false, nil
	}
	return false, fmt.Errorf("its kind is %.100q, not %q", *is, kind)
}

// isList is true of a JSON array.
type isList bool

// UnmarshalJSON implements json.Unmarshaler.
func (l *isList) UnmarshalJSON(value []byte) error {
	*l = value[0] == '['
	return nil
}

// decode reads a body that isKind takes for that kind.
func decode(body []byte, kind schema.GroupVersionKind, into runtime.Object) error {
	_, _, err := codecs.UniversalDecoder().Decode(body, &kind, into)
	return err
}

// found is one group version of a document, or what is wrong with it. A warning is
// what is not as it should be, though its meaning is clear.
type found struct {
	entry   *apidiscoveryv2.APIVersionDiscovery
	warning string
	err     error
}

func parseAggregated(body []byte) (map[schema.GroupVersion]found, error) {
	list := &apidiscoveryv2.APIGroupDiscoveryList{}
	named, err := isKind(body, listV2.Kind)
	if err == nil {
		err = decode(body, listV2, list)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the discovery document: %w", err)
	}
	warning := ""
	if !named {
		warning = "the discovery document of /apis names no kind"
	}
	all := map[schema.GroupVersion]found{}
	for g := range list.Items {
		for v := range list.Items[g].Versions {
			entry := list.Items[g].Versions[v].DeepCopy()
			all[schema.GroupVersion{Group: list.Items[g].Name, Version: entry.Version}] = found{entry: entry, warning: both(warning, complete(entry))}
		}
	}
	return all, nil
}

// Remembered reads what was kept of a group version's discovery, of that version,
// with the checks of a download. It holds at most maxTokens, and no more than a
// download may; how many it holds is returned too.
func Remembered(data []byte, version string, maxTokens int) (entry *apidiscoveryv2.APIVersionDiscovery, tokens int, err error) {
	if len(data) > maxDiscovery {
		return nil, 0, fmt.Errorf("over the limit of %d bytes", maxDiscovery)
	}
	if tokens, err = document.Tokens(data, min(maxTokens, maxDiscoveryTokens)); err != nil {
		return nil, tokens, err
	}
	entry = &apidiscoveryv2.APIVersionDiscovery{}
	if err := json.Unmarshal(data, entry); err != nil {
		return nil, tokens, err
	}
	if entry.Version != version {
		return nil, tokens, fmt.Errorf("it is of version %q, not %q", entry.Version, version)
	}
	complete(entry)
	return entry, tokens, nil
}

// complete leaves out what no client can use, of which it warns, and fills in what some
// clients cannot do without: a nil responseKind makes client-go v0.26.0 to v0.26.3
// panic (kubernetes/kubernetes#118361). One resource without a name is no reason to give
// the version up: namespaces could not be emptied (custom-metrics-apiserver has one by
// default).
func complete(entry *apidiscoveryv2.APIVersionDiscovery) (warning string) {
	entry.Freshness = ""
	named := slices.DeleteFunc(entry.Resources, func(r apidiscoveryv2.APIResourceDiscovery) bool { return r.Resource == "" })
	if len(named) < len(entry.Resources) {
		warning = fmt.Sprintf("the discovery document of version %q lists a resource without a name, which is left out", entry.Version)
		entry.Resources = named
	}
	for i := range entry.Resources {
		r := &entry.Resources[i]
		if r.ResponseKind == nil {
			r.ResponseKind = &metav1.GroupVersionKind{}
		}
		for j := range r.Subresources {
			if r.Subresources[j].ResponseKind == nil {
				r.Subresources[j].ResponseKind = &metav1.GroupVersionKind{}
			}
		}
	}
	return warning
}

// both joins what is said of a document.
func both(warning, another string) string {
	if warning == "" || another == "" {
		return warning + another
	}
	return warning + ", and " + another
}

// legacyDiscovery asks for one group version the way that servers without
// aggregated discovery understand.
func (f *Fetcher) legacyDiscovery(ctx context.Context, b *backend.Backend, a *catalog.APIService) found {
	path := a.DiscoveryPath()
	reply, err := f.get(ctx, b, a.Target, backend.Call{
		As: backend.Aggregator, Path: path, Accept: runtime.ContentTypeJSON, Limit: maxDiscovery,
	})
	if err != nil {
		return found{err: fmt.Errorf("failed to download legacy discovery for %s: %w", path, err)}
	}
	if reply.StatusCode != http.StatusOK {
		return found{err: fmt.Errorf("failed to download legacy discovery for %s: status code %d", path, reply.StatusCode)}
	}
	list, err := document.Guarded(func() (found, error) {
		list := parseLegacy(reply.Body, a)
		return list, list.err
	})
	list.err = err
	return list
}

func parseLegacy(body []byte, a *catalog.APIService) found {
	path := a.DiscoveryPath()
	list := &metav1.APIResourceList{}
	named, err := isKind(body, listV1.Kind)
	if err == nil {
		err = decode(body, listV1, list)
	}
	if err != nil {
		return found{err: fmt.Errorf("reading the resource list of %s: %w", path, err)}
	}
	warning, err := foreignVersion(list.GroupVersion, a)
	if err != nil {
		return found{err: err}
	}
	if !named {
		warning = both(warning, "the resource list of "+path+" names no kind")
	}
	resources, err := endpoints.ConvertGroupVersionIntoToDiscovery(list.APIResources)
	if err != nil {
		return found{err: fmt.Errorf("converting the resource list of %s: %w", path, err)}
	}
	entry := &apidiscoveryv2.APIVersionDiscovery{Version: a.Version, Resources: resources}
	return found{entry: entry, warning: both(warning, complete(entry))}
}

// foreignVersion says what is wrong with the group version that a resource list names.
// It was asked for by its path: one that names another version of the group is that of
// the path all the same, as some servers have it. One of another group is not.
func foreignVersion(names string, a *catalog.APIService) (warning string, err error) {
	if names == "" || names == a.GroupVersion().String() {
		return "", nil
	}
	gv, err := schema.ParseGroupVersion(names)
	if err != nil || gv.Group != a.Group || len(validation.IsDNS1035Label(gv.Version)) > 0 {
		return "", fmt.Errorf("the resource list of %s is that of %.300q", a.DiscoveryPath(), names)
	}
	return fmt.Sprintf("the resource list of %s names the version %s", a.DiscoveryPath(), gv.Version), nil
}
