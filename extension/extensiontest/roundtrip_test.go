package extensiontest

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	v1 "github.com/annex-api/annex/examples/bulletin/v1"
	"github.com/annex-api/annex/extension"
)

func TestALossyConversionIsFound(t *testing.T) {
	lossy := extension.RoundTrip{
		Kind: "Notice", Version: "v0", New: func() runtime.Object { return &v1.Notice{} },
		There: func(in runtime.Object) (runtime.Object, error) {
			out := in.DeepCopyObject().(*v1.Notice)
			out.Spec.Message = strings.TrimSpace(out.Spec.Message)
			out.Spec.Expires = nil
			return out, nil
		},
		Back: func(in runtime.Object) (runtime.Object, error) { return in, nil },
	}
	for seed := range int64(20) {
		if lost := lostBy(lossy, seed); strings.Contains(lost, "expires") {
			return
		}
	}
	t.Error("a conversion that drops spec.expires is not found")
}
