package extension_test

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubernetes "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

type oldThingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []oldThing `json:"items"`
}

func (l *oldThingList) DeepCopyObject() kubernetes.Object {
	out := &oldThingList{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy(), Items: make([]oldThing, len(l.Items))}
	for i := range l.Items {
		l.Items[i].DeepCopyInto(&out.Items[i])
	}
	return out
}

// What keeps a kind ends with its server, also where it is not served in the group's first
// version.
func TestEveryStoreEndsWithItsServer(t *testing.T) {
	const counting = "(*Store).startObservingCount" // what each store has running was made by it
	counters := func() int {
		buffer := make([]byte, 64<<20)
		return bytes.Count(buffer[:runtime.Stack(buffer, true)], []byte(counting+" in goroutine"))
	}
	// Those of servers of other tests are just ending.
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		return counters() == 0, nil
	}); err != nil {
		t.Fatalf("%d stores of other servers run", counters())
	}
	t.Run("server", func(t *testing.T) {
		other := extension.Resource[oldThing, oldThingList]{
			GroupVersion: schema.GroupVersion{Group: thingsV1.Group, Version: "v1alpha1"},
			Names:        extension.Names{Kind: "Other", List: "OtherList", Plural: "others"},
		}
		extensiontest.Start(t, nil, named(things{}), other)
		if got := counters(); got < 2 {
			t.Fatalf("%d stores run, want 2: they are told by another name", got)
		}
	})
	left := 0
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		left = counters()
		return left == 0, nil
	}); err != nil {
		t.Errorf("%d stores are left: %v", left, err)
	}
}
