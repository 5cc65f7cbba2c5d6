package codec

import (
	"errors"
	"fmt"
	"io"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/versioning"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// Serializer has objects of untyped kinds travel in the media types of a scheme's serializer.
// What a client sends of them is pruned to what the schema knows. Protobuf is not
// among the media types that they can be read in.
func (k *Kinds) Serializer(typed runtime.NegotiatedSerializer) runtime.NegotiatedSerializer {
	if len(k.objects) == 0 {
		return panicking{typed}
	}
	return panicking{negotiated{typed, k}}
}

// panicking has a conversion that panicked while a body was read panic again, where the
// request is answered with 500: an error would be answered with 400, as if it were the client's.
type panicking struct{ runtime.NegotiatedSerializer }

// DecoderToVersion implements runtime.NegotiatedSerializer.
func (p panicking) DecoderToVersion(d runtime.Decoder, to runtime.GroupVersioner) runtime.Decoder {
	return panickingDecoder{p.NegotiatedSerializer.DecoderToVersion(d, to)}
}

type panickingDecoder struct{ runtime.Decoder }

// Decode implements runtime.Decoder.
func (p panickingDecoder) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, gvk, err := p.Decoder.Decode(data, defaults, into)
	if panicked := (*versions.PanicError)(nil); errors.As(err, &panicked) {
		panic(panicked)
	}
	return obj, gvk, err
}

type negotiated struct {
	runtime.NegotiatedSerializer
	kinds *Kinds
}

// DecoderToVersion implements runtime.NegotiatedSerializer.
func (s negotiated) DecoderToVersion(d runtime.Decoder, to runtime.GroupVersioner) runtime.Decoder {
	return versioning.NewCodec(nil, pruning{d, s.kinds, s.isStrict(d)}, s.kinds.unsafe(), s.kinds, s.kinds, s.kinds,
		runtime.DisabledGroupVersioner, to, s.kinds.scheme.Name())
}

// isStrict says whether a decoder reports what it does not know.
func (s negotiated) isStrict(d runtime.Decoder) bool {
	for _, info := range s.SupportedMediaTypes() {
		if info.StrictSerializer != nil && info.StrictSerializer != info.Serializer && runtime.Decoder(info.StrictSerializer) == d {
			return true
		}
	}
	return false
}

// pruning brings what it decodes of untyped kinds into the form that decoding into a Go
// type gives.
type pruning struct {
	runtime.Decoder
	kinds  *Kinds
	strict bool
}

// Decode implements runtime.Decoder.
func (p pruning) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, gvk, err := p.Decoder.Decode(data, defaults, into)
	u, ok := obj.(*unstructured.Unstructured)
	if !ok || u.Object == nil {
		return obj, gvk, err
	}
	var strict []error
	if err != nil {
		found, ok := runtime.AsStrictDecodingError(err)
		if !ok {
			return nil, gvk, err
		}
		strict = found.Errors()
	}
	k := p.kinds.of(u)
	if k == nil {
		return obj, gvk, err
	}
	unknown, err := clean(k, u, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: p.strict})
	if err != nil {
		return nil, gvk, err
	}
	if p.strict {
		for _, path := range unknown {
			strict = append(strict, fmt.Errorf("unknown field %q", path))
		}
	}
	if len(strict) > 0 {
		return obj, gvk, runtime.NewStrictDecodingError(strict)
	}
	return obj, gvk, nil
}

// clean has an object have metadata of the right types, and no field that its version does
// not know. It gives the paths of what it took away.
func clean(k *kind.Kind, u *unstructured.Unstructured, options objectmeta.ObjectMetaOptions) (unknown []string, err error) {
	metadata, found, unknown, err := objectmeta.GetObjectMetaWithOptions(u.Object, options)
	if err != nil {
		return nil, err
	}
	if found {
		if err := objectmeta.SetObjectMeta(u.Object, metadata); err != nil {
			return nil, err
		}
	}
	if prune := k.Schemas[external(k, u.GroupVersionKind().Version)].Prune; prune != nil {
		unknown = append(unknown, prune(u.Object)...)
	}
	return unknown, nil
}

// EncoderForVersion implements runtime.NegotiatedSerializer.
func (s negotiated) EncoderForVersion(e runtime.Encoder, to runtime.GroupVersioner) runtime.Encoder {
	return encoder{versioning.NewCodec(e, nil, s.kinds.unsafe(), s.kinds, s.kinds, s.kinds, to, runtime.InternalGroupVersioner, s.kinds.scheme.Name()), s.kinds, to}
}

// encoder converts objects of untyped kinds beforehand. The usual encoder sets kind and
// version in what it is given while it converts it, which for them is a write into a map
// that the watch cache has.
type encoder struct {
	runtime.Encoder
	kinds *Kinds
	to    runtime.GroupVersioner
}

var _ runtime.EncoderWithAllocator = encoder{}

// Encode implements runtime.Encoder.
func (e encoder) Encode(obj runtime.Object, w io.Writer) error {
	shown, err := e.shown(obj)
	if err != nil {
		return err
	}
	return e.Encoder.Encode(shown, w)
}

// EncodeWithAllocator implements runtime.EncoderWithAllocator.
func (e encoder) EncodeWithAllocator(obj runtime.Object, w io.Writer, memory runtime.MemoryAllocator) error {
	shown, err := e.shown(obj)
	if err != nil {
		return err
	}
	return e.Encoder.(runtime.EncoderWithAllocator).EncodeWithAllocator(shown, w, memory)
}

func (e encoder) shown(obj runtime.Object) (runtime.Object, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		if k := e.kinds.of(u); k != nil {
			return e.kinds.unsafe().object(k, u, e.to)
		}
	}
	return obj, nil
}

// Storage writes objects of an untyped kind in the version that it is stored in, as JSON,
// and reads any of its versions into the hub. A version that cannot say all is stored with
// the hub's in an annotation.
func (k *Kinds) Storage(of *kind.Kind) runtime.Codec { return stored{k, of} }

type stored struct {
	kinds *Kinds
	kind  *kind.Kind
}

// Identifier implements runtime.Encoder.
func (s stored) Identifier() runtime.Identifier {
	return runtime.Identifier(fmt.Sprintf("stored %s %s in %s", s.kind.Hub, s.kind.Names.Kind, s.kind.StorageVersion))
}

// Encode implements runtime.Encoder.
func (s stored) Encode(obj runtime.Object, w io.Writer) error {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("%T is no %s", obj, s.kind.Names.Kind)
	}
	out, err := versions.Between(s.kind, u, s.kind.StorageVersion, versions.Stored)
	if err != nil {
		return err
	}
	return unstructured.UnstructuredJSONScheme.Encode(out, w)
}

// Decode implements runtime.Decoder.
func (s stored) Decode(data []byte, _ *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		return nil, nil, err
	}
	gvk := u.GroupVersionKind()
	if s.kinds.of(u) != s.kind {
		return nil, &gvk, runtime.NewNotRegisteredErrForKind("schemas of "+s.kind.Names.Plural, gvk)
	}
	if _, err := clean(s.kind, u, objectmeta.ObjectMetaOptions{DropMalformedFields: true}); err != nil {
		return nil, &gvk, err
	}
	setDefaults(s.kind, u)
	hub, err := versions.Between(s.kind, u, s.kind.Hub.Version, versions.Stored)
	if err != nil {
		return nil, &gvk, err
	}
	if hub != u {
		setDefaults(s.kind, hub)
	}
	switch into := into.(type) {
	case nil:
		return hub, &gvk, nil
	case *unstructured.Unstructured:
		into.Object = hub.Object
		return into, &gvk, nil
	}
	return nil, &gvk, errors.New("an object without a Go type is not read into one that has one")
}
