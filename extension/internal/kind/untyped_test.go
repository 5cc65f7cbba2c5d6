package kind

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// What a user's function may have left is what JSON is decoded into afterwards, and
// can be copied.
func TestNormal(t *testing.T) {
	in := map[string]any{
		"int": 3, "int32": int32(4), "uint": uint(5), "float32": float32(0.5), "large": int64(9007199254740993),
		"strings": []string{"a"}, "labels": map[string]string{"a": "b"},
		"deep": map[string]any{"list": []any{7, map[string]any{"x": 8}}},
		"time": metav1.Unix(0, 0), "nothing": nil, "yes": true,
	}
	want := map[string]any{
		"int": int64(3), "int32": int64(4), "uint": int64(5), "float32": 0.5, "large": int64(9007199254740993),
		"strings": []any{"a"}, "labels": map[string]any{"a": "b"},
		"deep": map[string]any{"list": []any{int64(7), map[string]any{"x": int64(8)}}},
		"time": "1970-01-01T00:00:00Z", "nothing": nil, "yes": true,
	}
	got, err := Normal(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	runtime.DeepCopyJSONValue(got) // it panics for what is no JSON
	for name, bad := range map[string]any{"a function": func() {}, "no number": math.NaN(), "deep": map[string]any{"a": []any{make(chan int)}}} {
		if _, err := Normal(bad); err == nil {
			t.Errorf("%s is taken for JSON", name)
		}
	}
}
