package kubeapiserver_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"github.com/annex-api/annex/kubeapiserver"
	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// changed are those parts of a server, by name, that are not kube-apiserver's own.
func changed(s *test.Server) []string {
	generic, apis := s.Made.Aggregator.GenericConfig, s.Made.KubeAPIs.ControlPlane.Generic
	ours := func(part any) bool {
		t := reflect.TypeOf(part)
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		return strings.HasPrefix(t.PkgPath(), "github.com/annex-api/annex/")
	}
	var names []string
	for name, is := range map[string]bool{
		"authentication": ours(generic.Authentication.Authenticator),
		"fairness":       ours(generic.FlowControl),
		"openapi":        apis.SkipOpenAPIInstallation,
		"built-in chain": reflect.ValueOf(apis.BuildHandlerChainFunc).Pointer() != reflect.ValueOf(genericapiserver.DefaultBuildHandlerChain).Pointer(),
	} {
		if is {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// What Annex changes in kube-apiserver beyond the layer can be switched off, and
// clients cannot tell whether it is.
func TestPlainKubeAPIServerIsTheSameToClients(t *testing.T) {
	tuned, err := server.Beside()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := server.BesideWith([]kubeapiserver.Option{kubeapiserver.Plain()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, s := range []*test.Server{tuned, plain} {
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		}
	}()
	if got := changed(plain); got != nil {
		t.Errorf("changed, though it is plain: %q", got)
	}
	if got := changed(tuned); !slices.Equal(got, []string{"authentication", "fairness", "openapi"}) {
		t.Errorf("changed: %q", got)
	}

	v1 := gv("plain.test", "v1")
	server.Register(t, "plain", v1)
	server.Allow(t, "alice", v1.Group)
	if _, err := server.Kube(t).CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Data: map[string]string{"a": "b"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*test.Server{tuned, plain} {
		test.Eventually(t, func() string {
			if a := s.Get(t, test.Admin, "/apis/"+v1.String()+"/things"); a.Code != http.StatusOK {
				return a.Body
			}
			return ""
		})
	}
	const things = "/apis/plain.test/v1/namespaces/ns/things"
	for _, c := range []exchange{
		{path: "/api/v1/namespaces/default/configmaps/plain"},
		{path: "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name=plain", header: []string{"Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"}},
		{path: "/api/v1/namespaces/default/configmaps/none"},
		{path: "/api/v1/namespaces/default/configmaps/plain", token: test.Bob},
		{path: "/api/v1/namespaces/default/configmaps/plain", token: "wrong"},
		{path: "/api/v1/namespaces/default/configmaps/plain", header: []string{"Impersonate-User", "bob"}},
		{path: "/api/v1/namespaces/default/configmaps/plain?timeout=never"},
		{method: http.MethodPost, path: "/api/v1/namespaces/default/configmaps?dryRun=All", body: `{"metadata":{"name":"new"}}`},
		{path: "/apis"},
		{path: "/apis", header: []string{"Accept", test.DiscoveryV2}},
		{path: "/apis/apiregistration.k8s.io/v1"},
		{path: "/openapi/v3"},
		{path: "/openapi/v3/apis/apps/v1"},
		{path: "/openapi/v3/apis/apiregistration.k8s.io/v1"},
		{path: "/openapi/v2", header: []string{"Accept", "application/json"}},
		{path: "/version"},
		{path: "/nowhere"},
		{path: things},
		{path: things, token: test.Alice},
		{path: things, token: test.Bob},
		{path: things, token: "wrong"},

		{path: things, header: []string{"Impersonate-User", "alice"}},
		{path: things, header: []string{"Origin", "https://elsewhere.example", "Audit-ID", "mine"}},
		{path: things + "?timeout=never"},
		{method: http.MethodPost, path: things, body: `{"a":"b"}`},
		{method: http.MethodDelete, path: things + "/one"},
		{path: "/apis/plain.test"},
		{path: "/apis/plain.test/v2/things"},
	} {
		t.Run(c.method+c.path+" "+c.token, func(t *testing.T) {
			for range 20 {
				want, got := c.send(t, plain), c.send(t, tuned)
				d := cmp.Diff(want, got)
				if d == "" {
					return
				}
				if cmp.Diff(want, c.send(t, plain)) == "" { // nothing was written in between, which a list shows
					t.Fatalf("the servers differ (-plain +tuned):\n%s", d)
				}
			}
			t.Error("what is stored changes all the time")
		})
	}
}

// exchange is the admin's GET where not said otherwise.
type exchange struct {
	method, path, body, token string
	header                    []string
}

var (
	audited = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	moments = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
)

// send returns what a client sees, without what differs from one request to the
// next.
func (c exchange) send(t *testing.T, s *test.Server) test.Answer {
	t.Helper()
	method, token := c.method, c.token
	if method == "" {
		method = http.MethodGet
	}
	if token == "" {
		token = test.Admin
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+c.path, bytes.NewReader([]byte(c.body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(c.header); i += 2 {
		r.Header.Set(c.header[i], c.header[i+1])
	}
	client := s.Client(token)
	defer client.CloseIdleConnections()
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.Header.Get("Audit-Id") == "" {
		t.Errorf("%s %s: no audit ID", method, c.path)
	}
	for _, name := range []string{"Date", "Audit-Id", "Last-Modified"} {
		response.Header.Del(name)
	}
	text := strings.ReplaceAll(string(body), s.Address, "server")
	text = moments.ReplaceAllString(audited.ReplaceAllString(text, "generated"), "then")
	var indented bytes.Buffer
	if json.Indent(&indented, []byte(text), "", " ") == nil {
		text = indented.String()
	}
	return test.Answer{Code: response.StatusCode, Header: response.Header, Body: text}
}
