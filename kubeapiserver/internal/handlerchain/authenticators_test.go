package handlerchain

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/kubeapiserver/authenticator"
	"k8s.io/kubernetes/pkg/serviceaccount"
	"k8s.io/kubernetes/plugin/pkg/auth/authenticator/token/bootstrap"

	"github.com/annex-api/annex/internal/testcerts"
)

// TestSameEffectsOfEachAuthenticator has kube-apiserver's own function set up all
// authenticators that it has.
func TestSameEffectsOfEachAuthenticator(t *testing.T) {
	ids := newIdentities(t)
	iss := newIssuer(t)
	change := func(t *testing.T, w *world) { iss.authenticate(t, w) }
	p := pair{newWorld(t, ids, reference, change), newWorld(t, ids, ours, change)}
	defer p.stop()
	p.warm(t)
	for _, c := range slices.Concat(credentials, iss.calls(t)) {
		p.compare(t, setting{both: c.core}, c)
	}
	if p.ours.inner.claimed.Load() == 0 {
		t.Error("no request went through the claimed chain")
	}
	// Good tokens are taken, and bad ones are not.
	p.ours.inner.reset()
	conn := dial(t, p.ours.address, "h2", nil)
	defer conn.close()
	for _, c := range iss.calls(t) {
		if a := conn.exchange(c.request(t.Context(), t)); c.core != (a.Status == http.StatusOK) {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
}

// Claims of the tokens.
const (
	serviceAccountIssuer = "https://accounts.example.com"
	audience             = "api"
	clientID             = "annex"
	hour                 = 3600
)

// issuer signs tokens of service accounts and of OpenID Connect, for which it
// serves what is to be discovered, and is a token webhook.
type issuer struct {
	server   *httptest.Server
	key      *ecdsa.PrivateKey
	metadata serviceaccount.OpenIDMetadataProvider
	legacy   map[string]string // tokens by their secrets
	objects  []runtime.Object
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	s := &issuer{key: testcerts.NewKey(), legacy: map[string]string{}}
	mux := http.NewServeMux()
	s.server = httptest.NewTLSServer(mux)
	t.Cleanup(s.server.Close)
	var err error
	s.metadata, err = serviceaccount.NewOpenIDMetadataProvider(s.server.URL, s.server.URL+"/keys", "", s.keys(t))
	if err != nil {
		t.Fatal(err)
	}
	document := func(get func() ([]byte, int)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			body, _ := get()
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
		}
	}
	mux.HandleFunc("/.well-known/openid-configuration", document(s.metadata.GetConfigJSON))
	mux.HandleFunc("/keys", document(s.metadata.GetKeysetJSON))
	mux.HandleFunc("/review", review)
	s.makeObjects(t)
	return s
}

// review answers for the tokens that the webhook knows.
func review(w http.ResponseWriter, r *http.Request) {
	var tr authenticationv1.TokenReview
	if err := json.NewDecoder(r.Body).Decode(&tr); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch tr.Spec.Token {
	case "webhook-wanda":
		tr.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: tr.Spec.Audiences, User: authenticationv1.UserInfo{
			Username: "wanda", UID: "w", Groups: []string{"hooked"}, Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}},
		}}
	case "webhook-elsewhere":
		tr.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{"elsewhere"}}
	case "webhook-complains":
		tr.Status.Error = "no such token"
	case "webhook-breaks":
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(tr)
}

func (s *issuer) keys(t *testing.T) serviceaccount.PublicKeysGetter {
	t.Helper()
	keys, err := serviceaccount.StaticPublicKeysGetter([]any{&s.key.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name)}
}

// makeObjects makes a service account, its pod and two secrets with tokens of old.
func (s *issuer) makeObjects(t *testing.T) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: meta("ns", "robot"), Secrets: []corev1.ObjectReference{{Name: "generated"}}}
	s.objects = append(s.objects, account, &corev1.Pod{ObjectMeta: meta("ns", "p"), Spec: corev1.PodSpec{ServiceAccountName: "robot"}})
	for _, name := range []string{"generated", "by-hand", "deleted"} {
		secret := corev1.Secret{ObjectMeta: meta("ns", name), Type: corev1.SecretTypeServiceAccountToken}
		claims, private := serviceaccount.LegacyClaims(*account, secret)
		token, err := generator(t, serviceaccount.LegacyIssuer, s.key).GenerateToken(t.Context(), claims, private)
		if err != nil {
			t.Fatal(err)
		}
		s.legacy[name] = token
		secret.Data = map[string][]byte{corev1.ServiceAccountTokenKey: []byte(token)}
		if name != "deleted" {
			s.objects = append(s.objects, &secret)
		}
	}
}

func generator(t *testing.T, name string, key *ecdsa.PrivateKey) serviceaccount.TokenGenerator {
	t.Helper()
	g, err := serviceaccount.JWTTokenGenerator(name, key)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// account makes a service account's token, bound to a pod if that has a name.
func (s *issuer) account(t *testing.T, key *ecdsa.PrivateKey, name, pod, audience string, lasts, warns int64) string {
	t.Helper()
	var bound *core.Pod
	if pod != "" {
		bound = &core.Pod{ObjectMeta: meta("ns", pod)}
	}
	claims, private, err := serviceaccount.Claims(core.ServiceAccount{ObjectMeta: meta("ns", name)}, bound, nil, nil, nil, nil, lasts, warns, []string{audience}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := generator(t, serviceAccountIssuer, key).GenerateToken(t.Context(), claims, private)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// person makes a token of OpenID Connect.
func (s *issuer) person(t *testing.T, key *ecdsa.PrivateKey, audience string, lasts int64, private map[string]any) string {
	t.Helper()
	claims, _, err := serviceaccount.Claims(core.ServiceAccount{ObjectMeta: meta("ns", "olga")}, nil, nil, nil, nil, nil, lasts, 0, []string{audience}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := generator(t, s.server.URL, key).GenerateToken(t.Context(), claims, private)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// calls have good tokens, which are the core ones, and bad ones.
func (s *issuer) calls(t *testing.T) []call {
	t.Helper()
	other := testcerts.NewKey()
	olga := map[string]any{"user": "olga", "teams": []string{"a", "b"}}
	good := []struct{ name, token string }{
		{"service account", s.account(t, s.key, "robot", "", audience, hour, 0)},
		{"service account of a pod", s.account(t, s.key, "robot", "p", audience, hour, 0)},
		{"service account's stale token", s.account(t, s.key, "robot", "p", audience, hour, -hour)},
		{"service account's token by hand", s.legacy["by-hand"]},
		{"service account's generated token, which is warned of", s.legacy["generated"]},
		{"bootstrap token", "abcdef.0123456789abcdef"},
		{"OpenID Connect", s.person(t, s.key, clientID, hour, olga)},
		{"webhook", "webhook-wanda"},
	}
	bad := []struct{ name, token string }{
		{"service account's expired token", s.account(t, s.key, "robot", "", audience, -hour, 0)},
		{"service account's token for others", s.account(t, s.key, "robot", "", "elsewhere", hour, 0)},
		{"service account that is gone", s.account(t, s.key, "gone", "", audience, hour, 0)},
		{"service account of a pod that is gone", s.account(t, s.key, "robot", "gone", audience, hour, 0)},
		{"service account by a stranger", s.account(t, other, "robot", "", audience, hour, 0)},
		{"service account's token whose secret is gone", s.legacy["deleted"]},
		{"bootstrap token with another secret", "abcdef.fedcba9876543210"},
		{"bootstrap token that is unknown", "fedcba.0123456789abcdef"},
		{"OpenID Connect, expired", s.person(t, s.key, clientID, -hour, olga)},
		{"OpenID Connect for others", s.person(t, s.key, "elsewhere", hour, olga)},
		{"OpenID Connect by a stranger", s.person(t, other, clientID, hour, olga)},
		{"OpenID Connect without a user", s.person(t, s.key, clientID, hour, map[string]any{})},
		{"webhook for others", "webhook-elsewhere"},
		{"webhook that complains", "webhook-complains"},
		{"webhook that breaks", "webhook-breaks"},
	}
	var all []call
	for _, g := range good {
		all = append(all, call{name: g.name, target: widget, header: bearer(g.token), times: 2, core: true})
	}
	for _, b := range bad {
		all = append(all, call{name: b.name, target: widget, header: bearer(b.token), times: 2})
	}
	return all
}

// authenticate sets up all authenticators, and waits until the issuer is known.
func (s *issuer) authenticate(t *testing.T, w *world) {
	t.Helper()
	client := fake.NewClientset(s.objects...)
	a := &w.config.Authentication
	a.APIAudiences = []string{audience}
	prefix := ""
	config := authenticator.Config{
		Anonymous:                      apiserver.AnonymousAuthConfig{Enabled: true},
		APIAudiences:                   a.APIAudiences,
		RequestHeaderConfig:            a.RequestHeaderConfig,
		ClientCAContentProvider:        w.config.SecureServing.ClientCA,
		TokenAuthFile:                  file(t, []byte(`token-of-bob,bob,uid-bob,"operators"`)),
		ServiceAccountLookup:           true,
		ServiceAccountIssuers:          []string{serviceAccountIssuer},
		ServiceAccountPublicKeysGetter: s.keys(t),
		ServiceAccountTokenGetter:      accounts{client},
		SecretsWriter:                  client.CoreV1(),
		BootstrapToken:                 true,
		BootstrapTokenAuthenticator:    bootstrap.NewTokenAuthenticator(bootstrapSecrets(t)),
		OIDCSigningAlgs:                []string{"ES256"},
		AuthenticationConfig: &apiserver.AuthenticationConfiguration{JWT: []apiserver.JWTAuthenticator{{
			Issuer: apiserver.Issuer{URL: s.server.URL, CertificateAuthority: string(s.authority()), Audiences: []string{clientID}},
			ClaimMappings: apiserver.ClaimMappings{
				Username: apiserver.PrefixedClaimOrExpression{Claim: "user", Prefix: &prefix},
				Groups:   apiserver.PrefixedClaimOrExpression{Claim: "teams", Prefix: &prefix},
			},
		}}},
		WebhookTokenAuthnConfigFile: s.kubeconfig(t),
		WebhookTokenAuthnVersion:    "v1",
		WebhookTokenAuthnCacheTTL:   2 * time.Minute,
		WebhookRetryBackoff:         &wait.Backoff{Steps: 1, Duration: time.Millisecond},
		TokenSuccessCacheTTL:        2 * time.Minute,
	}
	built, _, _, _, err := config.New(t.Context())
	if err != nil {
		t.Fatalf("setting up the authenticators: %v", err)
	}
	a.Authenticator = built
	r := call{target: widget, header: bearer(s.person(t, s.key, clientID, hour, map[string]any{"user": "first"}))}
	var refused error
	if !until(t.Context(), func() bool {
		_, ok, err := built.AuthenticateRequest(r.request(t.Context(), t))
		refused = err
		return ok && err == nil
	}) {
		t.Fatalf("the issuer is not known: %v", refused)
	}
}

func (s *issuer) authority() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
}

// kubeconfig is the webhook's.
func (s *issuer) kubeconfig(t *testing.T) string {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["hook"] = &clientcmdapi.Cluster{Server: s.server.URL + "/review", CertificateAuthorityData: s.authority()}
	c.AuthInfos["hook"] = &clientcmdapi.AuthInfo{}
	c.Contexts["hook"] = &clientcmdapi.Context{Cluster: "hook", AuthInfo: "hook"}
	c.CurrentContext = "hook"
	content, err := clientcmd.Write(*c)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, content)
}

func file(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func bootstrapSecrets(t *testing.T) listers.SecretNamespaceLister {
	t.Helper()
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	if err := indexer.Add(&corev1.Secret{
		ObjectMeta: meta(metav1.NamespaceSystem, "bootstrap-token-abcdef"), Type: "bootstrap.kubernetes.io/token",
		Data: map[string][]byte{
			"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"),
			"usage-bootstrap-authentication": []byte("true"), "auth-extra-groups": []byte("system:bootstrappers:new"),
		},
	}); err != nil {
		t.Fatal(err)
	}
	return listers.NewSecretLister(indexer).Secrets(metav1.NamespaceSystem)
}

// accounts reads what tokens are bound to.
type accounts struct{ client kubernetes.Interface }

func (a accounts) GetServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return a.client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (a accounts) GetPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return a.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (a accounts) GetSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return a.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (a accounts) GetNode(_ context.Context, name string) (*corev1.Node, error) {
	return nil, apierrors.NewNotFound(corev1.Resource("nodes"), name)
}

func (a accounts) GetValidatingWebhookConfiguration(ctx context.Context, name string) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	return a.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
}

func (a accounts) GetMutatingWebhookConfiguration(ctx context.Context, name string) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	return a.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
}
