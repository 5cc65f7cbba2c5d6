package sysinfo

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/annex-api/annex/examples/sysinfo/v1"
)

func TestParse(t *testing.T) {
	got, err := parse([]byte("cpu  900 0 0 800 0\ncpu0 100 200 300 4000 500 0\ncpu1 0 0 0 100 0\nintr 7 0\nbtime 1700000000\n"))
	if err != nil {
		t.Fatal(err)
	}
	started := metav1.NewTime(time.Unix(1700000000, 0))
	want := []v1.CPU{
		{ObjectMeta: metav1.ObjectMeta{Name: "cpu0", CreationTimestamp: started}, Status: v1.CPUStatus{BusySeconds: 6, IdleSeconds: 45}},
		{ObjectMeta: metav1.ObjectMeta{Name: "cpu1", CreationTimestamp: started}, Status: v1.CPUStatus{IdleSeconds: 1}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, broken := range []string{"cpu0 a 0 0 0 0\n", "btime soon\n"} {
		if _, err := parse([]byte(broken)); err == nil {
			t.Errorf("%q is read", broken)
		}
	}
}
