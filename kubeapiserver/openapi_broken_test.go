package kubeapiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"k8s.io/kube-openapi/pkg/util/proto"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/diagnosis"
	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// A server whose OpenAPI refers to a definition that is not in it spoils nobody else's, and
// is named for it until it is mended.
func TestOpenAPIThatClientsRefuseIsLeftOut(t *testing.T) {
	document := func(version, reference string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"/apis/%[1]s/things":{"get":{"description":"of %[1]s",`+
				`"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/thing"}}}}}},"definitions":{`+
				`"thing":{"type":"object","properties":{"spec":{"$ref":"#/definitions/%[2]s"}}},"spec":{"type":"object"}}}`, version, reference)
		}
	}
	start := func(name, reference string) *test.Extension {
		v1 := gv(name+".refused.test", "v1")
		e := test.NewExtension(t, "refused-"+name, v1)
		e.Handle("/openapi/v2", document(v1.String(), reference))
		e.Handle("/openapi/v3", http.NotFound)
		server.Expose(t, e.Name, "localhost")
		server.CreateRegistration(t, test.Registration(v1, e))
		server.AwaitAvailable(t, v1)
		return e
	}
	bad := start("bad", "gone")
	start("good", "spec")
	published := func(want ...string) {
		t.Helper()
		test.Eventually(t, func() string {
			a := server.Get(t, test.Admin, "/openapi/v2")
			parsed, err := openapi_v2.ParseDocument([]byte(a.Body))
			if err != nil {
				return fmt.Sprintf("%d %v", a.Code, err)
			}
			if _, err := proto.NewOpenAPIData(parsed); err != nil {
				return "clients refuse it: " + err.Error()
			}
			for _, name := range []string{"bad", "good"} {
				wanted := strings.Contains(strings.Join(want, " "), name)
				if strings.Contains(a.Body, "of "+name+".refused.test/v1") != wanted {
					return fmt.Sprintf("that of %s is there: %v", name, !wanted)
				}
			}
			return ""
		})
	}
	remote(t, "v1.bad.refused.test", func(s v1alpha1.RemoteAPIServiceStatus) string {
		if len(s.Faults) != 1 || s.Faults[0].Code != string(diagnosis.OpenAPIBroken) || s.State != v1alpha1.Degraded || !strings.Contains(s.Message, "gone") {
			return fmt.Sprintf("%s %s: %+v", s.State, s.Message, s.Faults)
		}
		return ""
	})
	awaitState(t, "v1.good.refused.test", v1alpha1.Healthy)
	published("good")
	bad.Handle("/openapi/v2", document("bad.refused.test/v1", "spec"))
	awaitState(t, "v1.bad.refused.test", v1alpha1.Healthy)
	published("good", "bad")
}
