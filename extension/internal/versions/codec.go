package versions

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"

	"github.com/annex-api/annex/extension/internal/kind"
)

// StorageCodec writes objects of a kind in the version that it is stored in, as JSON,
// and reads any of its versions into the hub. What it gives has no kind and version set,
// as converted objects have none: the hub's own would be seen as a difference, and be
// sent with each item of a list.
func StorageCodec(scheme *runtime.Scheme, codecs serializer.CodecFactory, k *kind.Kind) runtime.Codec {
	text := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})
	return untyped{codecs.CodecForVersions(text, codecs.UniversalDeserializer(),
		schema.GroupVersion{Group: k.Hub.Group, Version: k.StorageVersion}, runtime.InternalGroupVersioner)}
}

type untyped struct{ runtime.Codec }

func (u untyped) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, gvk, err := u.Codec.Decode(data, defaults, into)
	if obj != nil && err == nil {
		obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
	return obj, gvk, err
}
