package similar

import (
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	have := []string{"v1.example.com", "v2.example.com", "v1beta1.metrics.k8s.io", strings.Repeat("v", 5000)}
	for name, want := range map[string][]string{
		"v1.exampel.com":           {"v1.example.com"},
		"metrics":                  {"v1beta1.metrics.k8s.io"},
		"v3.example.com":           {"v1.example.com", "v2.example.com"},
		"quite.another":            nil,
		"":                         nil,
		strings.Repeat("v", 1<<20): nil,
	} {
		if got := Names(name, have); !slices.Equal(got, want) {
			t.Errorf("%.40q: got %q, want %q", name, got, want)
		}
	}
}
