package versions

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/versioning"

	"github.com/annex-api/annex/extension/internal/kind"
)

// StorageCodec writes objects of a kind in the version that it is stored in, as JSON,
// and reads any of its versions into the hub. A version that cannot say all is stored
// with the hub's in an annotation, so that nothing is lost. What it gives has no kind and
// version set, as converted objects have none: the hub's own would be seen as a
// difference, and be sent with each item of a list.
func StorageCodec(scheme *runtime.Scheme, codecs serializer.CodecFactory, k *kind.Kind) runtime.Codec {
	text := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})
	convertor := newLossless(scheme, k)
	convertor.forStorage = true
	return stored{
		versioning.NewCodec(text, codecs.UniversalDeserializer(), convertor, scheme, scheme, scheme,
			schema.GroupVersion{Group: k.Hub.Group, Version: k.StorageVersion}, runtime.InternalGroupVersioner, scheme.Name()),
		scheme, k.Hub,
	}
}

type stored struct {
	runtime.Codec
	defaulter runtime.ObjectDefaulter
	hub       schema.GroupVersion
}

// Decode sets the hub's defaults in what is stored in another version, too.
func (s stored) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, gvk, err := s.Codec.Decode(data, defaults, into)
	if obj == nil || err != nil {
		return obj, gvk, err
	}
	if gvk != nil && gvk.Group == s.hub.Group && gvk.Version != s.hub.Version {
		s.defaulter.Default(obj)
	}
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return obj, gvk, nil
}
