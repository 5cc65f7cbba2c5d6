package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/rest"
)

// grant gives the site's ServiceAccount what extension servers need. In is the namespace of the
// RoleBinding.
func (s *site) grant(ctx context.Context, in string, reader, delegator bool) error {
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: s.namespace, Name: account}}
	if reader {
		_, err := s.kube.RbacV1().RoleBindings(in).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: s.namespace + "-reader"}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "extension-apiserver-authentication-reader"},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	if delegator {
		_, err := s.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: s.namespace + "-delegator"}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:auth-delegator"},
		}, metav1.CreateOptions{})
		return err
	}
	return nil
}

// identity is a configuration with the ServiceAccount's token.
func (s *site) identity(ctx context.Context) (*rest.Config, error) {
	token, err := s.kube.CoreV1().ServiceAccounts(s.namespace).CreateToken(ctx, account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("ask for a token: %w", err)
	}
	config := rest.AnonymousClientConfig(s.admin)
	config.BearerToken = token.Status.Token
	return config, nil
}

// readAuthorities has authorities be read as a server that starts does, and waits for the front
// proxy's if it is among them.
func (s *site) readAuthorities(ctx context.Context, all dynamiccertificates.CAContentProvider, frontProxy bool) error {
	runner, ok := all.(dynamiccertificates.ControllerRunner)
	if !ok {
		return nil // there are none
	}
	s.server.done.Go(func() { runner.Run(s.server.over, 1) })
	if !frontProxy {
		return nil
	}
	m, err := s.kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
	if err != nil {
		return err
	}
	return until(ctx, "the authorities are not read", func() error {
		if !strings.Contains(string(all.CurrentCABundleContent()), strings.TrimSpace(m.Data["requestheader-client-ca-file"])) {
			return errors.New("the front proxy's is missing")
		}
		return nil
	})
}

// delegate has the server find out who calls and what they may as every extension server does: with
// the code of k8s.io/apiserver, as the ServiceAccount. It reads what the API server publishes.
func (s *site) delegate(ctx context.Context, set func(*options.DelegatingAuthenticationOptions)) error {
	config, err := s.identity(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(s.folder, "kubeconfig")
	if err := writeKubeconfig(file, config); err != nil {
		return err
	}
	authentication := options.NewDelegatingAuthenticationOptions()
	authentication.RemoteKubeConfigFile = file
	if set != nil {
		set(authentication)
	}
	who, serving := genericserver.AuthenticationInfo{}, genericserver.SecureServingInfo{}
	if err := authentication.ApplyTo(&who, &serving, nil); err != nil {
		return err
	}
	if err := s.readAuthorities(ctx, serving.ClientCA, !authentication.SkipInClusterLookup && authentication.RequestHeader.ClientCAFile == ""); err != nil {
		return err
	}
	authorization := options.NewDelegatingAuthorizationOptions()
	authorization.RemoteKubeConfigFile = file
	authorization.AllowCacheTTL, authorization.DenyCacheTTL = time.Millisecond, time.Millisecond
	authorization.WithAlwaysAllowPaths("/readyz", "/openapi/v2", "/openapi/v3")
	var may genericserver.AuthorizationInfo
	if err := authorization.ApplyTo(&may); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	codecs := serializer.NewCodecFactory(scheme)
	said := authorizer.AuthorizerFunc(func(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		decision, reason, err := may.Authorizer.Authorize(ctx, a)
		if err != nil {
			s.server.say("E1128 00:00:00.000000       1 errors.go:77] %q err=%q", "Unhandled Error", err)
		}
		return decision, reason, err
	})
	resolver := &request.RequestInfoFactory{APIPrefixes: sets.NewString("apis", "api"), GrouplessAPIPrefixes: sets.NewString("api")}
	pool := x509.NewCertPool()
	if serving.ClientCA != nil {
		pool.AppendCertsFromPEM(serving.ClientCA.CurrentCABundleContent())
	}
	s.server.change(func(m *manner) {
		m.clientCAs = pool
		m.trust = func(next http.Handler) http.Handler {
			allowed := filters.WithAuthorization(next, said, codecs)
			known := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				found, ok, err := who.Authenticator.AuthenticateRequest(r)
				if err != nil || !ok {
					s.server.say("E1128 00:00:00.000000       1 authentication.go:75] %q err=%q", "Unable to authenticate the request", fmt.Sprint(err))
					write(w, http.StatusUnauthorized, status(http.StatusUnauthorized, "Unauthorized", "Unauthorized"))
					return
				}
				allowed.ServeHTTP(w, r.WithContext(request.WithUser(r.Context(), found.User)))
			})
			return filters.WithRequestInfo(known, resolver)
		}
	})
	return nil
}
