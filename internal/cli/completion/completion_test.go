package completion

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/internal/cli/kubeconfig"
)

func TestNamesAreThoseWithAnExtensionServer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/apis/apiregistration.k8s.io/v1/apiservices" || r.URL.Query().Get("labelSelector") != remote {
			http.NotFound(w, r)
			return
		}
		list := metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadataList", APIVersion: "meta.k8s.io/v1"}}
		for _, name := range []string{"v1.b.example.com", "v1.a.example.com", "v2.a.example.com", "v1.$(reboot)", "v1.\x1b[2J"} {
			list.Items = append(list.Items, metav1.PartialObjectMetadata{
				TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/v1"}, ObjectMeta: metav1.ObjectMeta{Name: name},
			})
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list) // a client that is gone needs no answer
	}))
	defer s.Close()
	complete := APIServices(&kubeconfig.Flags{Server: s.URL})
	for _, c := range []struct {
		args  []string
		begun string
		want  []string
	}{
		{nil, "", []string{"v1.a.example.com", "v1.b.example.com", "v2.a.example.com"}},
		{[]string{"v1.a.example.com"}, "v1", []string{"v1.b.example.com"}},
		{nil, "v3", nil},
	} {
		got, directive := complete(nil, c.args, c.begun)
		if !slices.Equal(got, c.want) || directive != cobra.ShellCompDirectiveNoFileComp {
			t.Errorf("%q after %q: got %q, %v", c.begun, c.args, got, directive)
		}
	}
}

// A shell waits no longer than it takes to notice.
func TestASilentServerIsNotWaitedFor(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	if got, _ := APIServices(&kubeconfig.Flags{Server: s.URL, RequestTimeout: "0"})(nil, nil, ""); got != nil {
		t.Errorf("got %q", got)
	}
}
