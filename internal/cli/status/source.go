package status

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/cli/kubeconfig"
	"github.com/annex-api/annex/internal/printable"
)

// source is an API server that is asked about APIServices.
type source interface {
	// list gives all of them.
	list(ctx context.Context) (listed, error)
	// watch gives what changes after a resourceVersion. Objects of events are RemoteAPIServices.
	watch(ctx context.Context, resourceVersion string) (watch.Interface, error)
	// refresh is how often to list while watching, because not all that changes makes an event; zero
	// means never.
	refresh() time.Duration
	// columns are those that it can fill.
	columns() []column
}

// listed is an answer.
type listed struct {
	items           []v1alpha1.RemoteAPIService
	resourceVersion string
	// note is what the user should know of it, or empty.
	note string
}

const (
	// pageSize bounds one answer to a list.
	pageSize = 500
	// maxPages bounds a list.
	maxPages = 200
	// watchTimeout is when the API server ends a watch, and another begins.
	watchTimeout = 5 * time.Minute
)

// choose finds out what API server this is, by asking it.
func choose(ctx context.Context, c *kubeconfig.Connection, selector string) (source, listed, error) {
	own, err := newAnnex(c, selector)
	if err != nil {
		return nil, listed{}, err
	}
	first, err := own.list(ctx)
	if err == nil {
		return own, first, nil
	}
	if apierrors.IsUnauthorized(err) || apierrors.ReasonForError(err) == metav1.StatusReasonUnknown {
		return nil, listed{}, err
	}
	// It answers, but not this: it is another API server, or one that does not let this user.
	note := "This API server is not Annex and tells less: the condition of each APIService, and endpoints of Services."
	if !apierrors.IsNotFound(err) && own.known(ctx) {
		note = fmt.Sprintf("Less is shown: what Annex sees cannot be read (%v).", brief(err))
	}
	other, err := newPlain(c, selector)
	if err != nil {
		return nil, listed{}, err
	}
	if first, err = other.list(ctx); err != nil {
		return nil, listed{}, err
	}
	if first.note != "" {
		note += " " + first.note
	}
	first.note = note
	return other, first, nil
}

// annex is an API server with the resource RemoteAPIService.
type annex struct {
	client, streams rest.Interface
	selector        string
}

const resource = "remoteapiservices"

func newAnnex(c *kubeconfig.Connection, selector string) (*annex, error) {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(v1alpha1.GroupVersion, &v1alpha1.RemoteAPIService{}, &v1alpha1.RemoteAPIServiceList{})
	metav1.AddToGroupVersion(scheme, v1alpha1.GroupVersion)
	client := func(config *rest.Config) (rest.Interface, error) {
		config = rest.CopyConfig(config)
		config.APIPath, config.GroupVersion = "/apis", &v1alpha1.GroupVersion
		config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		return rest.RESTClientFor(config)
	}
	a := &annex{selector: selector}
	var err error
	if a.client, err = client(c.Config); err == nil {
		a.streams, err = client(c.Streaming())
	}
	return a, err
}

func (a *annex) list(ctx context.Context) (listed, error) {
	var all listed
	err := pages(func(next string) (metav1.ListMeta, error) {
		var page v1alpha1.RemoteAPIServiceList
		err := a.client.Get().Resource(resource).
			VersionedParams(&metav1.ListOptions{LabelSelector: a.selector, Limit: pageSize, Continue: next}, metav1.ParameterCodec).
			Do(ctx).Into(&page)
		all.items = append(all.items, page.Items...)
		all.resourceVersion = page.ResourceVersion
		return page.ListMeta, err
	}, func() { all = listed{} })
	for i := range all.items {
		received(&all.items[i])
	}
	return all, err
}

// received completes what an API server sent: lists leave out the kind. A message that is longer than
// the contract says is cut.
func received(r *v1alpha1.RemoteAPIService) {
	r.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("RemoteAPIService"))
	if len(r.Status.Message) > maxMessage {
		r.Status.Message = printable.Line(r.Status.Message, maxMessage)
	}
}

// pages asks for one page after another. A list that has become too old while it was read begins again,
// once.
func pages(ask func(next string) (metav1.ListMeta, error), again func()) error {
	next, begun := "", 1
	for range maxPages {
		meta, err := ask(next)
		switch {
		case err != nil && next != "" && apierrors.IsResourceExpired(err) && begun == 1:
			again()
			next, begun = "", begun+1
		case err != nil:
			return err
		case meta.Continue == "":
			return nil
		default:
			next = meta.Continue
		}
	}
	return fmt.Errorf("the list has more than %d pages", maxPages)
}

func (a *annex) watch(ctx context.Context, resourceVersion string) (watch.Interface, error) {
	return a.streams.Get().Resource(resource).VersionedParams(watchOptions(a.selector, resourceVersion), metav1.ParameterCodec).
		MaxRetries(0). // the follower tries again, and says so
		Watch(ctx)
}

func watchOptions(selector, resourceVersion string) *metav1.ListOptions {
	seconds := int64(watchTimeout / time.Second)
	return &metav1.ListOptions{LabelSelector: selector, ResourceVersion: resourceVersion, Watch: true, AllowWatchBookmarks: true, TimeoutSeconds: &seconds}
}

func (a *annex) refresh() time.Duration { return 0 }

func (a *annex) columns() []column { return annexColumns }

// known is whether discovery has the group: whoever lacks a right is told so before it is looked whether
// there is anything to have a right to.
func (a *annex) known(ctx context.Context) bool {
	return a.client.Get().AbsPath("/apis/"+v1alpha1.GroupVersion.Group).Do(ctx).Error() == nil
}
