package extension_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/kine/memory"
)

// emptyHost serves its authentication settings and nothing else. broken has it fail when
// it is asked what it serves.
func emptyHost(t *testing.T, broken bool) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/configmaps/extension-apiserver-authentication"):
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}}); err != nil {
				t.Error(err)
			}
		case broken && strings.HasPrefix(r.URL.Path, "/apis/"):
			http.Error(w, "broken", http.StatusBadRequest)
		default:
			http.NotFound(w, r)
		}
	}))
}

// A server that never runs, or could not be made, leaves nothing behind: no stores, no
// caches, nothing that follows the host.
func TestWhatNeverRunsLeavesNothing(t *testing.T) {
	for what, c := range map[string]struct {
		broken bool
		fails  string
	}{
		"closed":                  {false, ""},
		"the host's answer fails": {true, "ask the host"},
	} {
		t.Run(what, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			host := emptyHost(t, c.broken)
			s, err := extension.New(t.Context(), extension.Config{
				Name: "things", Storage: "memory://", Host: &rest.Config{Host: host.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}},
				LeaderElection: extension.LeaderElection{Off: true},
			}, named(things{}), computedOthers, extension.Drivers(memory.Driver()))
			if c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) || c.fails == "" && err != nil {
				t.Fatal(err)
			}
			if err == nil {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			host.CloseClientConnections()
			host.Close()
			// A look at a cache that is not fresh ends by a timer of three seconds, whatever happens.
			goleak.VerifyNone(t, before, goleak.IgnoreTopFunction("k8s.io/apiserver/pkg/storage/cacher.(*watchCache).waitUntilFreshLocked.func2"))
		})
	}
}

// other is a second kind, without storage.
type other struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
}

func (o *other) DeepCopyObject() runtime.Object {
	return &other{TypeMeta: o.TypeMeta, ObjectMeta: *o.ObjectMeta.DeepCopy()}
}

var computedOthers = extension.Computed[other]{
	GroupVersion: thingsV1, Names: extension.Names{Kind: "Other"}, Every: time.Second,
	List: func(context.Context) ([]other, error) { return nil, nil },
}
