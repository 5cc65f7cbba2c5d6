package v1

import (
	"reflect"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDeepCopySharesNothing(t *testing.T) {
	build := func() *NoticeList {
		return &NoticeList{
			ListMeta: metav1.ListMeta{RemainingItemCount: new(int64)},
			Items: []Notice{{
				ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"k": "v"}},
				Spec:       NoticeSpec{Message: "m", Expires: &metav1.Time{Time: time.Unix(1, 0)}},
				Status:     NoticeStatus{Phase: PhaseActive},
			}},
		}
	}
	original := build()
	dup := original.DeepCopyObject().(*NoticeList)
	if !reflect.DeepEqual(dup, original) {
		t.Fatalf("the copy %+v differs from %+v", dup, original)
	}
	*dup.RemainingItemCount = 7
	dup.Items[0].Labels["k"] = "changed"
	dup.Items[0].Spec.Expires.Time = time.Unix(2, 0)
	one := original.Items[0].DeepCopyObject().(*Notice)
	one.Labels["k"] = "changed"
	one.Spec.Expires.Time = time.Unix(2, 0)
	if !reflect.DeepEqual(original, build()) {
		t.Errorf("a change of the copy changed the original: %+v", original)
	}
}
