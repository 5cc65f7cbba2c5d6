package conformance

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

func TestResourcesThatCannotBeListedAreLeftOut(t *testing.T) {
	reviews := metav1.APIResource{Name: "reviews", Kind: "Review", Verbs: metav1.Verbs{"create"}}
	widgets := metav1.APIResource{Name: "widgets", Kind: "Widget", Verbs: metav1.Verbs{"get", "list"}}
	status := metav1.APIResource{Name: "widgets/status", Kind: "Widget", Verbs: metav1.Verbs{"get", "list"}}
	for _, c := range []struct {
		name   string
		served []metav1.APIResource
		want   []string
		said   string
		err    string
	}{
		{"one of two", []metav1.APIResource{reviews, widgets, status}, []string{"widgets"}, "reviews cannot be listed", ""},
		{"none", []metav1.APIResource{reviews}, nil, "reviews cannot be listed", "example.com/v1 has no resource that can be listed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/apis/example.com/v1" {
					http.NotFound(w, r)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				if err := json.NewEncoder(w).Encode(metav1.APIResourceList{
					TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "example.com/v1", APIResources: c.served,
				}); err != nil {
					t.Error(err)
				}
			}))
			defer server.Close()
			var said bytes.Buffer
			resources, err := resourcesOf(t.Context(), &rest.Config{Host: server.URL}, "v1.example.com", &said)
			var got []string
			for _, r := range resources {
				got = append(got, r.Resource)
			}
			if !slices.Equal(got, c.want) || !strings.Contains(said.String(), c.said) || strings.Contains(said.String(), "widgets") {
				t.Errorf("got %v, want %v; it said %q", got, c.want, &said)
			}
			if text := errorText(err); text != c.err {
				t.Errorf("error %q, want %q", text, c.err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
