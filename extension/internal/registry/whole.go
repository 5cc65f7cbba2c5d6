package registry

import (
	"context"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// Whole has admission that changes objects see them whole, whatever version a request
// comes through: with the hub's defaults, and with what the version cannot say. What a
// webhook or policy of another version cannot say stays as it was.
func Whole(next admission.Interface, kinds ...*kind.Kind) admission.Interface {
	mutates, ok := next.(admission.MutationInterface)
	if !ok {
		return next
	}
	return whole{next, mutates, kinds}
}

type whole struct {
	admission.Interface
	mutates admission.MutationInterface
	kinds   []*kind.Kind
}

var (
	_ admission.MutationInterface   = whole{}
	_ admission.ValidationInterface = whole{}
)

// Admit implements admission.MutationInterface.
func (w whole) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if p, ok := ctx.Value(partlyKey{}).(*partly); ok && a.GetOperation() == admission.Update && a.GetOldObject() == p.seen {
		if err := p.complete(a.GetObject()); err != nil {
			return err
		}
	}
	if op := a.GetOperation(); op == admission.Create || op == admission.Update {
		for _, k := range w.kinds {
			if a.GetResource().GroupResource() == k.Resource() && reflect.TypeOf(a.GetObject()) == reflect.TypeOf(k.New()) {
				defaultHub(ctx, k, a.GetObject())
				if len(k.Spokes) > 0 {
					o = converting{o, k, a.GetObject()}
				}
			}
		}
	}
	return w.mutates.Admit(ctx, a, o)
}

// Validate implements admission.ValidationInterface.
func (w whole) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if validates, ok := w.Interface.(admission.ValidationInterface); ok {
		return validates.Validate(ctx, a, o)
	}
	return nil
}

// converting has what webhooks and policies changed come back without loss.
type converting struct {
	admission.ObjectInterfaces
	kind   *kind.Kind
	object runtime.Object // the request's, which is the hub's
}

// GetObjectConvertor implements admission.ObjectInterfaces.
func (c converting) GetObjectConvertor() runtime.ObjectConvertor {
	return keeping{c.ObjectInterfaces.GetObjectConvertor(), c.kind, c.object}
}

// keeping converts to the hub so that what the other version cannot say is what the
// request's object has.
type keeping struct {
	runtime.ObjectConvertor
	kind   *kind.Kind
	object runtime.Object
}

// Convert fills the request's object with what a webhook or policy has made of it. The
// conversion is given an empty one: what was taken away must not be what was there before.
func (c keeping) Convert(in, out, context any) error {
	changed, ok := in.(runtime.Object)
	if !ok || out != any(c.object) {
		return c.ObjectConvertor.Convert(in, out, context)
	}
	version, ok := versions.SpokeOf(c.kind, changed)
	if !ok {
		return c.ObjectConvertor.Convert(in, out, context)
	}
	hub, err := versions.ToHub(c.kind, version, changed)
	if err != nil {
		return err
	}
	if err := versions.KeepHubOnly(c.kind, version, hub, c.object); err != nil {
		return err
	}
	hub.GetObjectKind().SetGroupVersionKind(c.object.GetObjectKind().GroupVersionKind())
	reflect.ValueOf(out).Elem().Set(reflect.ValueOf(hub).Elem())
	return nil
}

// ConvertToVersion does the same for a policy, whose object becomes one of the request's
// version.
func (c keeping) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	out, err := c.ObjectConvertor.ConvertToVersion(in, target)
	if err != nil || reflect.TypeOf(out) != reflect.TypeOf(c.object) {
		return out, err
	}
	if _, still := versions.SpokeOf(c.kind, out); still { // it has no Go type
		return out, nil
	}
	if version, ok := versions.SpokeOf(c.kind, in); ok {
		err = versions.KeepHubOnly(c.kind, version, out, c.object)
	}
	return out, err
}
