package bulletin

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	hostTimeout = 30 * time.Second
	hostPoll    = 50 * time.Millisecond
	// trustTimeout bounds the wait for the host's front-proxy CA.
	trustTimeout = 10 * time.Second
)

// access sets who may call the server and what they may do.
type access func(context.Context, *genericserver.Config) error

// delegate gives the access that asks the host: its front-proxy certificates
// vouch for the users that it forwards, its TokenReviews for bearer tokens, and
// its SubjectAccessReviews say what they may do. It waits up to hostTimeout for
// a host that is still starting.
func delegate(kubeconfig string) access {
	return func(ctx context.Context, config *genericserver.Config) error {
		if err := waitForHost(ctx, kubeconfig); err != nil {
			return err
		}
		authentication := options.NewDelegatingAuthenticationOptions()
		authentication.RemoteKubeConfigFile = kubeconfig
		if err := authentication.ApplyTo(&config.Authentication, config.SecureServing, config.OpenAPIConfig); err != nil {
			return fmt.Errorf("delegate authentication to the host: %w", err)
		}
		authorization := options.NewDelegatingAuthorizationOptions()
		authorization.RemoteKubeConfigFile = kubeconfig
		if err := authorization.ApplyTo(&config.Authorization); err != nil {
			return fmt.Errorf("delegate authorization to the host: %w", err)
		}
		return config.AddPostStartHook("host-trust", func(hook genericserver.PostStartHookContext) error {
			return waitForTrust(hook, config.Authentication)
		})
	}
}

// waitForHost waits until the host shows this server its authentication
// settings.
func waitForHost(ctx context.Context, kubeconfig string) error {
	config, err := hostConfig(kubeconfig)
	if err != nil {
		return err
	}
	config.Timeout = 5 * time.Second
	config.QPS = -1 // hostPoll is the limit
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("use the kubeconfig of the host: %w", err)
	}
	const name = "extension-apiserver-authentication"
	var last error
	err = wait.PollUntilContextTimeout(ctx, hostPoll, hostTimeout, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, name, metav1.GetOptions{})
		if err != nil && last == nil {
			klog.InfoS("Waiting for the host", "host", config.Host, "err", err)
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
		metav1.NamespaceSystem, name, config.Host, hostTimeout, last)
}

func hostConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("no kubeconfig, and not in a Pod either: name the host's with --kubeconfig: %w", err)
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig %s: %w", kubeconfig, err)
	}
	return config, nil
}

// waitForTrust holds /readyz back until the host's front-proxy CA has arrived:
// before that, every forwarded user would be anonymous. A host that publishes
// none cannot forward anybody, so after trustTimeout the server goes on.
func waitForTrust(ctx context.Context, authentication genericserver.AuthenticationInfo) error {
	if authentication.RequestHeaderConfig == nil {
		return nil
	}
	ca := authentication.RequestHeaderConfig.CAContentProvider
	err := wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, trustTimeout, true, func(context.Context) (bool, error) {
		return len(ca.CurrentCABundleContent()) > 0, nil
	})
	if err != nil && ctx.Err() == nil {
		klog.InfoS("The host publishes no front-proxy CA: requests forwarded by it will be anonymous")
	}
	return nil
}
