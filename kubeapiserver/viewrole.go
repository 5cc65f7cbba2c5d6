package kubeapiserver

import (
	"context"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	rbacv1client "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/reconciliation"
	"k8s.io/klog/v2"

	aggregationv1alpha1 "github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/console"
)

// viewRoleName is the ClusterRole of those who may read aggregation.annex.dev.
const viewRoleName = "annex:aggregation:view"

// viewRole keeps that ClusterRole as kube-apiserver keeps those that it brings: rules that are
// missing are added at the start, unless an annotation of the role says that it is left alone.
type viewRole struct {
	client rbacv1client.ClusterRolesGetter
	// retry is how long to wait after a failure. It doubles up to longest.
	retry, longest time.Duration
}

func newViewRole(client rbacv1client.ClusterRolesGetter) *viewRole {
	return &viewRole{client: client, retry: time.Second, longest: time.Minute}
}

// expected is aggregated into view, from which edit and admin inherit.
func (*viewRole) expected() *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{
			Name:        viewRoleName,
			Labels:      map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"},
			Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
		},
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{aggregationv1alpha1.GroupVersion.Group},
			Resources: []string{"remoteapiservices"},
			Verbs:     []string{"get", "list", "watch"},
		}, {
			// The page, which asks for the right above once more.
			NonResourceURLs: []string{strings.TrimSuffix(console.Path, "/"), console.Path + "*"},
			Verbs:           []string{"get"},
		}},
	}
}

// reconcile tries until it is done, or ctx ends. Without RBAC's API there is nothing to do.
func (v *viewRole) reconcile(ctx context.Context) {
	log := klog.FromContext(ctx)
	for pause := v.retry; ; pause = min(2*pause, v.longest) {
		options := reconciliation.ReconcileRoleOptions{
			Role:    reconciliation.ClusterRoleRuleOwner{ClusterRole: v.expected()},
			Client:  reconciliation.ClusterRoleModifier{Client: v.client.ClusterRoles()},
			Confirm: true,
		}
		_, err := options.Run()
		switch {
		case err == nil:
			return
		case apierrors.IsNotFound(err): // what is missing is the API: a role would have been made
			log.V(2).Info("There are no ClusterRoles here, and none for aggregation.annex.dev", "err", err)
			return
		}
		log.Error(err, "Reconciling a ClusterRole", "clusterRole", viewRoleName)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
