package versions

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/annex-api/annex/extension/internal/kind"
)

// ClientScheme is a scheme for clients of kinds: their versions, and Kubernetes' own
// kinds. A type has one version in it, as clients need it.
func ClientScheme(kinds ...*kind.Kind) (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(s); err != nil {
		return nil, err
	}
	for _, k := range kinds {
		for _, v := range k.Served() {
			gv := schema.GroupVersion{Group: k.Hub.Group, Version: v}
			object, list, _ := k.Version(v)
			if k.Untyped == nil { // clients read others without a scheme
				register(s, gv, k.Names, object, list)
			}
			metav1.AddToGroupVersion(s, gv)
		}
	}
	return s, nil
}
