package identity

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension/internal/inprocess"
)

func newConfig() *genericapiserver.Config {
	c := genericapiserver.NewConfig(serializer.NewCodecFactory(runtime.NewScheme()))
	c.SecureServing = &genericapiserver.SecureServingInfo{}
	return c
}

// who is the user of a request with a token, and whether the request is refused.
func who(t *testing.T, config *genericapiserver.Config, token string) (user.Info, bool) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(t.Context())
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, ok, err := config.Authentication.Authenticator.AuthenticateRequest(r)
	if err != nil || !ok {
		return nil, true
	}
	return response.User, false
}

// asks are questions to an authorizer.
type asks struct {
	name   string
	groups []string
	verb   string
	path   string // a resource if empty
	want   bool
}

func (a asks) check(t *testing.T, config *genericapiserver.Config) {
	t.Helper()
	attributes := authorizer.AttributesRecord{User: &user.DefaultInfo{Name: a.name, Groups: a.groups}, Verb: a.verb, Path: a.path}
	if a.path == "" {
		attributes.ResourceRequest, attributes.APIGroup, attributes.APIVersion, attributes.Resource = true, "things.example.com", "v1", "things"
	}
	decision, reason, err := config.Authorization.Authorizer.Authorize(t.Context(), attributes)
	if got := decision == authorizer.DecisionAllow; got != a.want || err != nil {
		t.Errorf("%s of %v: %s %s: %v, %s, %v", a.name, a.groups, a.verb, a.path, decision, reason, err)
	}
}

// A server without a host knows its tokens and its groups. A wrong token is nobody; without
// one somebody is anonymous, and may read its health and nothing else.
func TestStandalone(t *testing.T) {
	config := newConfig()
	if err := Standalone(map[string]user.Info{"token-of-ann": &user.DefaultInfo{Name: "ann", Groups: []string{Admins}}}, config); err != nil {
		t.Fatal(err)
	}
	if got, _ := who(t, config, "token-of-ann"); got == nil || got.GetName() != "ann" || cmp.Diff([]string{Admins, user.AllAuthenticated}, got.GetGroups()) != "" {
		t.Errorf("the token is of %v", got)
	}
	if got, refused := who(t, config, "token-of-an"); !refused {
		t.Errorf("a wrong token is of %v", got)
	}
	if got, _ := who(t, config, ""); got == nil || got.GetName() != user.Anonymous {
		t.Errorf("without a token it is %v", got)
	}
	known, nobody := []string{user.AllAuthenticated}, []string{user.AllUnauthenticated}
	for _, a := range []asks{
		{"ann", append([]string{Admins}, known...), "delete", "", true},
		{"vic", append([]string{Viewers}, known...), "watch", "", true},
		{"vic", append([]string{Viewers}, known...), "create", "", false},
		{"joe", known, "get", "", false},
		{"joe", known, "get", "/apis", true},
		{"joe", known, "get", "/openapi/v3", true},
		{"joe", known, "post", "/apis", false},
		{"me", []string{user.SystemPrivilegedGroup}, "delete", "", true},
		{user.Anonymous, nobody, "get", "/readyz", true},
		{user.Anonymous, nobody, "get", "/livez/ping", true},
		{user.Anonymous, nobody, "get", "/apis", false},
		{user.Anonymous, nobody, "get", "/metrics", false},
		{user.Anonymous, nobody, "list", "", false},
	} {
		a.check(t, config)
	}
}

// hostAPI is a host that knows the token of one user, who may list things, and counts what
// it is asked.
type hostAPI struct {
	mu    sync.Mutex
	asked map[string]int
}

func (h *hostAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.asked[r.URL.Path]++
	h.mu.Unlock()
	var answer any
	switch r.URL.Path {
	case "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication":
		answer = &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Data: map[string]string{}}
	case "/apis/authentication.k8s.io/v1/tokenreviews":
		review := &authenticationv1.TokenReview{}
		if err := json.NewDecoder(r.Body).Decode(review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if review.Spec.Token == "token-of-ann" {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "ann", Groups: []string{"team"}}}
		}
		answer = review
	case "/apis/authorization.k8s.io/v1/subjectaccessreviews":
		review := &authorizationv1.SubjectAccessReview{}
		if err := json.NewDecoder(r.Body).Decode(review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		of := review.Spec.ResourceAttributes
		review.Status.Allowed = review.Spec.User == "ann" && of != nil && of.Group == "things.example.com" && of.Resource == "things" && of.Verb == "list"
		answer = review
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusCreated)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// asJSON is how a client of this host speaks.
func asJSON(host string) *rest.Config {
	return &rest.Config{Host: host, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON}}
}

// The host says who somebody is and what he may do. Health checks and system:masters it is
// not asked about, nor callers of the same process who they are. What is made for a server
// that never runs ends.
func TestDelegate(t *testing.T) {
	before := goleak.IgnoreCurrent()
	h := &hostAPI{asked: map[string]int{}}
	server := httptest.NewServer(h)
	config := newConfig()
	unused, err := Delegate(t.Context(), asJSON(server.URL), config)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := who(t, config, "token-of-ann"); got == nil || got.GetName() != "ann" || cmp.Diff([]string{"team", user.AllAuthenticated}, got.GetGroups()) != "" {
		t.Errorf("the token is of %v", got)
	}
	if got, refused := who(t, config, "wrong"); !refused {
		t.Errorf("a wrong token is of %v", got)
	}
	if got, _ := who(t, config, ""); got == nil || got.GetName() != user.Anonymous {
		t.Errorf("without a token it is %v", got)
	}
	for _, a := range []asks{
		{"ann", nil, "list", "", true},
		{"ann", nil, "delete", "", false},
		{"bob", nil, "list", "", false},
		{user.Anonymous, []string{user.AllUnauthenticated}, "get", "/apis", false},
	} {
		a.check(t, config)
	}
	reviews := h.asked["/apis/authorization.k8s.io/v1/subjectaccessreviews"]
	for _, a := range []asks{
		{"ann", nil, "list", "", true}, // it is known for a while
		{"me", []string{user.SystemPrivilegedGroup}, "delete", "", true},
		{user.Anonymous, []string{user.AllUnauthenticated}, "get", "/readyz", true},
	} {
		a.check(t, config)
	}
	if n := h.asked["/apis/authorization.k8s.io/v1/subjectaccessreviews"]; n != reviews {
		t.Errorf("the host was asked %d times more", n-reviews)
	}
	inside := httptest.NewRequest(http.MethodGet, "/", nil)
	inside = inside.WithContext(inprocess.ConnContext(inside.Context(), nil))
	client, err := inprocess.Listen().Client(&user.DefaultInfo{Name: "own"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.WrapTransport(capture(func(r *http.Request) { inside.Header = r.Header })).RoundTrip(inside)
	if err != nil {
		t.Fatal(err)
	}
	if response, ok, err := config.Authentication.Authenticator.AuthenticateRequest(inside); err != nil || !ok || response.User.GetName() != "own" {
		t.Errorf("in process it is %v, %v", response, err)
	}
	unused()
	server.CloseClientConnections()
	server.Close()
	goleak.VerifyNone(t, before)
}

type capture func(*http.Request)

func (c capture) RoundTrip(r *http.Request) (*http.Response, error) {
	c(r)
	return httptest.NewRecorder().Result(), nil
}

// A host that is away is waited for as long as the caller waits, and asked again.
func TestAHostIsWaitedFor(t *testing.T) {
	asked := 0
	ctx, cancel := context.WithCancel(t.Context())
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked == 3 {
			cancel()
		}
		http.Error(w, "away", http.StatusServiceUnavailable)
	}))
	defer away.Close()
	if _, err := Delegate(ctx, asJSON(away.URL), newConfig()); err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) || asked < 3 {
		t.Errorf("after %d questions: %v", asked, err)
	}
}
