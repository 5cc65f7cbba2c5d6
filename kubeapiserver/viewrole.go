package kubeapiserver

import (
	"context"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	rbacv1client "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/reconciliation"
	"k8s.io/klog/v2"

	aggregationv1alpha1 "github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/console"
)

const (
	// viewRoleName is the ClusterRole of those who may read aggregation.annex.dev.
	viewRoleName = "annex:aggregation:view"
	// consoleRoleName is that of the page's path, and its binding's.
	consoleRoleName = "annex:console"
)

// viewRole keeps these ClusterRoles as kube-apiserver keeps those that it brings: what is missing
// is added at the start, unless an annotation says that one is left alone.
type viewRole struct {
	client roleClient
	// retry is how long to wait after a failure. It doubles up to longest.
	retry, longest time.Duration
}

type roleClient interface {
	rbacv1client.ClusterRolesGetter
	rbacv1client.ClusterRoleBindingsGetter
}

func newViewRole(client roleClient) *viewRole {
	return &viewRole{client: client, retry: time.Second, longest: time.Minute}
}

var keptCurrent = map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"}

// expectedView is aggregated into view, from which edit and admin inherit. It has resources alone:
// who owns a namespace by a Role may bind these three there as long as the Role has all that they
// have, and no Role has paths.
func expectedView() *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{
			Name: viewRoleName, Annotations: keptCurrent,
			Labels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"},
		},
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{aggregationv1alpha1.GroupVersion.Group},
			Resources: []string{"remoteapiservices"},
			Verbs:     []string{"get", "list", "watch"},
		}},
	}
}

// expectedConsole lets every user get to the page, which asks for the right to read the resource.
func expectedConsole() (*rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding) {
	meta := metav1.ObjectMeta{Name: consoleRoleName, Annotations: keptCurrent}
	role := &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
		NonResourceURLs: []string{strings.TrimSuffix(console.Path, "/"), console.Path + "*"},
		Verbs:           []string{"get"},
	}}}
	return role, &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: consoleRoleName},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: user.AllAuthenticated}},
	}
}

// reconcile tries until it is done, or ctx ends. Without RBAC's API there is nothing to do.
func (v *viewRole) reconcile(ctx context.Context) {
	log := klog.FromContext(ctx)
	for pause := v.retry; ; pause = min(2*pause, v.longest) {
		err := v.reconcileOnce()
		switch {
		case err == nil:
			return
		case apierrors.IsNotFound(err): // what is missing is the API: a role would have been made
			log.V(2).Info("There are no ClusterRoles here, and none for aggregation.annex.dev", "err", err)
			return
		}
		log.Error(err, "Reconciling the ClusterRoles of aggregation.annex.dev", "clusterRoles", []string{viewRoleName, consoleRoleName})
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (v *viewRole) reconcileOnce() error {
	page, binding := expectedConsole()
	for _, role := range []*rbacv1.ClusterRole{expectedView(), page} {
		options := reconciliation.ReconcileRoleOptions{
			Role:    reconciliation.ClusterRoleRuleOwner{ClusterRole: role},
			Client:  reconciliation.ClusterRoleModifier{Client: v.client.ClusterRoles()},
			Confirm: true,
		}
		if _, err := options.Run(); err != nil {
			return err
		}
	}
	options := reconciliation.ReconcileRoleBindingOptions{
		RoleBinding: reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: binding},
		Client:      reconciliation.ClusterRoleBindingClientAdapter{Client: v.client.ClusterRoleBindings()},
		Confirm:     true,
	}
	_, err := options.Run()
	return err
}
