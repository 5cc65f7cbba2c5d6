package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/kubernetes"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/testcerts"
)

// authorityFile writes an authority's certificate.
func (s *site) authorityFile(pem []byte) (string, error) {
	file := filepath.Join(s.folder, "authority.crt")
	return file, os.WriteFile(file, pem, 0o600)
}

// startsAnew is a new Pod, whose server reads what the API server publishes.
func startsAnew(ctx context.Context, s *site) error {
	if err := s.rolledOut(ctx); err != nil {
		return err
	}
	if err := s.replace(ctx); err != nil {
		return err
	}
	err := s.delegate(ctx, nil)
	s.server.disconnect() // no connection of the server before is left
	return err
}

// allRights are what an extension server needs.
func (s *site) allRights(ctx context.Context) error {
	return s.grant(ctx, metav1.NamespaceSystem, true, true)
}

// failsToStart is a server that ends since it may not read the ConfigMap, with its own words.
func failsToStart(ctx context.Context, s *site) error {
	err := s.delegate(ctx, nil)
	if err == nil {
		return errors.New("the server starts")
	}
	s.server.say("Error: %v", err)
	return nil
}

func identityFaults() []fault {
	return []fault{
		{
			name: "old-front-proxy", code: diagnosis.FrontProxyNotTrusted,
			how: "the server read the front proxy's authority before that was replaced",
			inject: func(ctx context.Context, s *site) error {
				file, err := s.authorityFile(testcerts.New("front-proxy-ca-before").PEM)
				if err != nil {
					return err
				}
				return errors.Join(s.allRights(ctx), s.delegate(ctx, func(o *options.DelegatingAuthenticationOptions) { o.RequestHeader.ClientCAFile = file }))
			},
			run: []string{"rollout restart", "requestheader-client-ca-file"}, mend: startsAnew,
		},
		{
			name: "name-not-allowed", code: diagnosis.FrontProxyNameNotAllowed,
			how: "the server accepts the front proxy by another name than that of its certificate",
			inject: func(ctx context.Context, s *site) error {
				m, err := s.kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
				if err != nil {
					return err
				}
				file, err := s.authorityFile([]byte(m.Data["requestheader-client-ca-file"]))
				if err != nil {
					return err
				}
				return errors.Join(s.allRights(ctx), s.delegate(ctx, func(o *options.DelegatingAuthenticationOptions) {
					o.RequestHeader.ClientCAFile, o.RequestHeader.AllowedNames = file, []string{"aggregator"}
				}))
			},
			run: []string{"requestheader-allowed-names"}, by: "the server takes the names that are printed",
			mend: func(ctx context.Context, s *site) error { return s.delegate(ctx, nil) },
		},
		{
			name: "proxy-as-user", code: diagnosis.FrontProxyIdentityUsed, available: true,
			how: "the front proxy's authority is the server's authority for clients, and it heeds no headers",
			inject: func(ctx context.Context, s *site) error {
				m, err := s.kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
				if err != nil {
					return err
				}
				file, err := s.authorityFile([]byte(m.Data["requestheader-client-ca-file"]))
				if err != nil {
					return err
				}
				return errors.Join(s.allRights(ctx), s.delegate(ctx, func(o *options.DelegatingAuthenticationOptions) {
					o.ClientCert.ClientCA, o.SkipInClusterLookup = file, true
				}))
			},
			run: []string{".data.client-ca-file", ".data.requestheader-client-ca-file"}, by: "the server gets an authority for clients of its own",
			mend: func(ctx context.Context, s *site) error { return s.delegate(ctx, nil) },
		},
		{
			name: "anonymous", code: diagnosis.AnonymousRefused,
			how: "the server knows no front proxy, so that every request is anonymous",
			inject: func(ctx context.Context, s *site) error {
				return errors.Join(s.allRights(ctx), s.delegate(ctx, func(o *options.DelegatingAuthenticationOptions) { o.SkipInClusterLookup = true }))
			},
			run: []string{"create rolebinding", "rollout restart"}, mend: startsAnew,
		},
		{
			name: "no-reader", code: diagnosis.AuthenticationReaderMissing, also: []diagnosis.Code{diagnosis.MissingEndpoints}, short: true,
			how:  "there is no RoleBinding to extension-apiserver-authentication-reader: the server ends when it starts",
			plan: func(s *site) { s.unready("CrashLoopBackOff") },
			inject: func(ctx context.Context, s *site) error {
				return errors.Join(s.grant(ctx, "", false, true), failsToStart(ctx, s))
			},
			run: []string{"create rolebinding", "rollout restart"}, mend: startsAnew,
		},
		{
			name: "reader-elsewhere", code: diagnosis.AuthenticationReaderMissing, also: []diagnosis.Code{diagnosis.MissingEndpoints},
			how:  "that RoleBinding lies in the server's own namespace",
			plan: func(s *site) { s.unready("CrashLoopBackOff") },
			inject: func(ctx context.Context, s *site) error {
				return errors.Join(s.grant(ctx, s.namespace, true, true), failsToStart(ctx, s))
			},
			run: []string{"create rolebinding", "rollout restart"}, mend: startsAnew,
		},
		{
			name: "no-delegator", code: diagnosis.AuthDelegatorMissing, available: true,
			how: "there is no ClusterRoleBinding to system:auth-delegator",
			inject: func(ctx context.Context, s *site) error {
				return errors.Join(s.grant(ctx, metav1.NamespaceSystem, true, false), s.delegate(ctx, nil))
			},
			run: []string{"create clusterrolebinding"},
		},
		{
			name: "no-informers", code: diagnosis.InformerRightsMissing, also: []diagnosis.Code{diagnosis.MissingEndpoints},
			how:  "the server waits for FlowSchemas that it may not list, and is not ready",
			plan: func(s *site) { s.unready("") },
			inject: func(ctx context.Context, s *site) error {
				err := s.listsFlowSchemas(ctx)
				if err == nil {
					return errors.New("it may list FlowSchemas")
				}
				s.server.say(`E1128 00:00:00.000000       1 reflector.go:205] "Failed to watch" err="failed to list *v1.FlowSchema: %v" type="*v1.FlowSchema"`, err)
				return nil
			},
			run: []string{"create clusterrole ", "create clusterrolebinding"},
			mend: func(ctx context.Context, s *site) error {
				if err := until(ctx, "FlowSchemas may not be listed", func() error { return s.listsFlowSchemas(ctx) }); err != nil {
					return err
				}
				return s.replace(ctx)
			},
		},
	}
}

func (s *site) listsFlowSchemas(ctx context.Context) error {
	config, err := s.identity(ctx)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	_, err = client.FlowcontrolV1().FlowSchemas().List(ctx, metav1.ListOptions{})
	return err
}
