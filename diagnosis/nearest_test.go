package diagnosis

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	names := []string{"v1.apps", "v1beta1.metrics.k8s.io", "v1beta1.custom.metrics.k8s.io", "v1.widgets.example.com", "ANX201", strings.Repeat("v", 5000)}
	for typed, want := range map[string]string{
		"v1beta1.metric.k8s.io":  "v1beta1.metrics.k8s.io",
		"metrics":                "v1beta1.custom.metrics.k8s.io v1beta1.metrics.k8s.io",
		"V1.Apps":                "v1.apps",
		"v1.appz":                "v1.apps",
		"anx201":                 "ANX201",
		"nx2":                    "ANX201",
		"nothing-of-the-kind":    "",
		"":                       "",
		strings.Repeat("v", 5e6): "",
	} {
		if got := strings.Join(Nearest(typed, names), " "); got != want {
			t.Errorf("%.30q: got %q, want %q", typed, got, want)
		}
	}
}
