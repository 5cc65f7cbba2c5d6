// Package identity decides who calls a server and what they may do: as its host says,
// as a server without a host says, or as its own process says.
package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/path"
	authorizerunion "k8s.io/apiserver/pkg/authorization/union"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/extension/internal/inprocess"
)

const (
	// cacheTTL is how long the host's answers hold.
	cacheTTL = 10 * time.Second
	// reviewTimeout bounds one question to the host.
	reviewTimeout = 10 * time.Second
	// hostTimeout bounds the wait for a host that is not there at the start.
	hostTimeout = time.Minute
	hostPoll    = 100 * time.Millisecond
	// trustTimeout bounds the wait for the host's front-proxy CA.
	trustTimeout = 10 * time.Second
	settings     = "extension-apiserver-authentication"
)

// alwaysAllowed are paths that whoever reaches the server may read: those by which a
// kubelet and a load balancer ask for its health.
var alwaysAllowed = []string{"/healthz", "/readyz", "/livez", "/healthz/*", "/readyz/*", "/livez/*"}

// Delegate has the host decide: its front-proxy certificates vouch for the users that it
// forwards, its TokenReviews for bearer tokens, its client CA for certificates, and its
// SubjectAccessReviews say what all of them may do. config has SecureServing already
// if the server is to take certificates. It waits for a host that is not there yet.
//
// What follows the host's certificates runs and ends with the server. Where the server
// never runs, unused ends it.
func Delegate(ctx context.Context, host *rest.Config, config *genericapiserver.Config) (unused func(), err error) {
	client, err := kubernetes.NewForConfig(host)
	if err != nil {
		return nil, fmt.Errorf("make a client of the host: %w", err)
	}
	if err := awaitSettings(ctx, client, host.Host); err != nil {
		return nil, err
	}
	f, err := follow(client)
	if err != nil {
		return nil, err
	}
	if err := f.delegate(ctx, client, config); err != nil {
		f.end()
		return nil, err
	}
	return f.end, nil
}

// following is what follows the host's certificates.
type following struct {
	headers  *options.DynamicRequestHeaderController
	clientCA *dynamiccertificates.ConfigMapCAController
}

func follow(client kubernetes.Interface) (*following, error) {
	f := &following{headers: &options.DynamicRequestHeaderController{
		RequestHeaderAuthRequestController: headerrequest.NewRequestHeaderAuthRequestController(settings, metav1.NamespaceSystem, client,
			"requestheader-username-headers", "requestheader-uid-headers", "requestheader-group-headers",
			"requestheader-extra-headers-prefix", "requestheader-allowed-names"),
	}}
	var errs [2]error
	f.headers.ConfigMapCAController, errs[0] = dynamiccertificates.NewDynamicCAFromConfigMapController("front-proxy-ca", metav1.NamespaceSystem, settings, "requestheader-client-ca-file", client)
	f.clientCA, errs[1] = dynamiccertificates.NewDynamicCAFromConfigMapController("client-ca", metav1.NamespaceSystem, settings, "client-ca-file", client)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("follow the host's certificates: %w", err)
	}
	return f, nil
}

// end closes the work queues, which live from the beginning on: a run that is over does.
func (f *following) end() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	f.headers.RequestHeaderAuthRequestController.Run(over, 1)
	f.headers.ConfigMapCAController.Run(over, 1)
	f.clientCA.Run(over, 1)
}

func (f *following) delegate(ctx context.Context, client kubernetes.Interface, config *genericapiserver.Config) error {
	headers, clientCA := f.headers, f.clientCA
	if err := headers.RunOnce(ctx); err != nil {
		return fmt.Errorf("read the host's front-proxy settings: %w", err)
	}
	strings := func(f func() []string) headerrequest.StringSliceProvider {
		return headerrequest.StringSliceProvider(headerrequest.StringSliceProviderFunc(f))
	}
	config.Authentication.RequestHeaderConfig = &authenticatorfactory.RequestHeaderConfig{
		CAContentProvider:   headers,
		UsernameHeaders:     strings(headers.UsernameHeaders),
		UIDHeaders:          strings(headers.UIDHeaders),
		GroupHeaders:        strings(headers.GroupHeaders),
		ExtraHeaderPrefixes: strings(headers.ExtraHeaderPrefixes),
		AllowedClientNames:  strings(headers.AllowedClientNames),
	}
	for _, ca := range []dynamiccertificates.CAContentProvider{clientCA, headers} {
		if err := config.Authentication.ApplyClientCert(ca, config.SecureServing); err != nil {
			return fmt.Errorf("take client certificates: %w", err)
		}
	}
	authentication := authenticatorfactory.DelegatingAuthenticatorConfig{
		Anonymous:                          &apiserver.AnonymousAuthConfig{Enabled: true},
		TokenAccessReviewClient:            client.AuthenticationV1(),
		TokenAccessReviewTimeout:           reviewTimeout,
		WebhookRetryBackoff:                options.DefaultAuthWebhookRetryBackoff(),
		CacheTTL:                           cacheTTL,
		ClientCertificateCAContentProvider: clientCA,
		RequestHeaderConfig:                config.Authentication.RequestHeaderConfig,
	}
	delegated, _, err := authentication.New()
	if err != nil {
		return fmt.Errorf("delegate authentication: %w", err)
	}
	config.Authentication.Authenticator = union.NewFailOnError(group.NewAuthenticatedGroupAdder(inprocess.Authenticator()), delegated)
	review, err := authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: client.AuthorizationV1(),
		AllowCacheTTL:             cacheTTL,
		DenyCacheTTL:              cacheTTL,
		WebhookRetryBackoff:       options.DefaultAuthWebhookRetryBackoff(),
	}.New()
	if err != nil {
		return fmt.Errorf("delegate authorization: %w", err)
	}
	if config.Authorization.Authorizer, err = authorize(review); err != nil {
		return err
	}
	return config.AddPostStartHook("host-trust", func(hook genericapiserver.PostStartHookContext) error {
		awaitTrust(hook, headers)
		return nil
	})
}

// authorize puts what is always allowed before an authorizer: the health checks, and
// everything for system:masters, as every API server has it.
func authorize(next authorizer.Authorizer) (authorizer.Authorizer, error) {
	paths, err := path.NewAuthorizer(alwaysAllowed)
	if err != nil {
		return nil, fmt.Errorf("allow health checks: %w", err)
	}
	return authorizerunion.New(
		authorizerunion.NamedAuthorizer{AuthorizerName: "kubernetes.io/always-allow-groups", Authorizer: authorizerfactory.NewPrivilegedGroups("system:masters")},
		authorizerunion.NamedAuthorizer{AuthorizerName: "kubernetes.io/always-allow-paths", Authorizer: paths},
		authorizerunion.NamedAuthorizer{AuthorizerName: "extension.annex.dev/identity", Authorizer: next},
	)
}

// awaitSettings waits until the host shows this server its authentication settings.
func awaitSettings(ctx context.Context, client kubernetes.Interface, host string) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, hostPoll, hostTimeout, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, settings, metav1.GetOptions{})
		if err != nil && last == nil {
			klog.FromContext(ctx).Info("Waiting for the host", "host", host, "err", err)
		}
		if err != nil && (last == nil || ctx.Err() == nil) {
			last = err
		}
		return err == nil, nil
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("read configmap %s/%s of the host %s for %s (is it up, and may this server's user read it, by the role extension-apiserver-authentication-reader?): %w",
		metav1.NamespaceSystem, settings, host, hostTimeout, last)
}

// awaitTrust holds readiness back until the host's front-proxy CA has arrived: before
// that, every forwarded user would be anonymous. A host that publishes none cannot
// forward anybody, so after a while the server goes on.
func awaitTrust(ctx context.Context, ca dynamiccertificates.CAContentProvider) {
	err := wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, trustTimeout, true, func(context.Context) (bool, error) {
		return len(ca.CurrentCABundleContent()) > 0, nil
	})
	if err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Info("The host publishes no front-proxy CA: requests that it forwards will be anonymous")
	}
}
