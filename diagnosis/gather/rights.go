package gather

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/diagnosis"
)

// readerRole lets extension servers read how the front proxy is known.
const readerRole = "extension-apiserver-authentication-reader"

// wanted is what each right is, as a review asks for it.
var wanted = map[diagnosis.Right]authorizationv1.ResourceAttributes{
	diagnosis.ReadAuthentication: {
		Verb: "get", Resource: "configmaps", Namespace: metav1.NamespaceSystem, Name: "extension-apiserver-authentication",
	},
	diagnosis.ReviewAccess:            {Verb: "create", Group: "authorization.k8s.io", Resource: "subjectaccessreviews"},
	diagnosis.ReviewTokens:            {Verb: "create", Group: "authentication.k8s.io", Resource: "tokenreviews"},
	diagnosis.WatchFlowSchemas:        {Verb: "list", Group: "flowcontrol.apiserver.k8s.io", Resource: "flowschemas"},
	diagnosis.WatchPriorityLevels:     {Verb: "list", Group: "flowcontrol.apiserver.k8s.io", Resource: "prioritylevelconfigurations"},
	diagnosis.WatchMutatingWebhooks:   {Verb: "list", Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations"},
	diagnosis.WatchValidatingWebhooks: {Verb: "list", Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations"},
	diagnosis.WatchNamespaces:         {Verb: "list", Resource: "namespaces"},
}

// rights are what a ServiceAccount may do, and who lets it read the front proxy's settings.
func (g *gathering) rights(ctx context.Context, namespace, name string) (map[diagnosis.Right]diagnosis.Known[bool], diagnosis.Known[[]string]) {
	account := account{namespace, name}
	var readers diagnosis.Known[[]string]
	asked := make([]diagnosis.Known[bool], len(diagnosis.Rights()))
	var group sync.WaitGroup
	group.Go(func() { readers = g.readerBindings(ctx, account) })
	for i, right := range diagnosis.Rights() {
		group.Go(func() { asked[i] = g.review(ctx, account, wanted[right]) })
	}
	group.Wait()
	found := map[diagnosis.Right]diagnosis.Known[bool]{}
	var read diagnosis.Known[[]grant]
	for i, right := range diagnosis.Rights() {
		found[right] = asked[i]
		if !errors.Is(asked[i].Why(), diagnosis.ErrForbidden) {
			continue
		}
		// Who may not ask may still read what is granted.
		if read.Why() == diagnosis.ErrNotAsked {
			read = g.grants(ctx, account)
		}
		if grants, seen := read.Get(); seen {
			found[right] = granted(grants, wanted[right], asked[i].Why())
		}
	}
	return found, readers
}

// account is a ServiceAccount.
type account struct{ namespace, name string }

func (a account) user() string { return "system:serviceaccount:" + a.namespace + ":" + a.name }

func (a account) groups() []string {
	return []string{"system:serviceaccounts", "system:serviceaccounts:" + a.namespace, "system:authenticated"}
}

// among says whether a binding is for the account.
func (a account) among(subjects []rbacv1.Subject) bool {
	return slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
		switch s.Kind {
		case rbacv1.ServiceAccountKind:
			return s.Namespace == a.namespace && s.Name == a.name
		case rbacv1.UserKind:
			return s.Name == a.user()
		case rbacv1.GroupKind:
			return slices.Contains(a.groups(), s.Name)
		}
		return false
	})
}

// review asks whether the account may.
func (g *gathering) review(ctx context.Context, a account, what authorizationv1.ResourceAttributes) diagnosis.Known[bool] {
	body, err := json.Marshal(authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"},
		Spec:     authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: &what, User: a.user(), Groups: a.groups()},
	})
	if err != nil {
		return diagnosis.Unseen[bool](err)
	}
	answer, err := send[authorizationv1.SubjectAccessReview](ctx, g.cluster, request{
		method: "POST", path: "/apis/authorization.k8s.io/v1/subjectaccessreviews", contentType: "application/json", body: body, most: maxObject,
	})
	if err == nil && !answer.Status.Allowed && answer.Status.EvaluationError != "" && !answer.Status.Denied {
		err = fmt.Errorf("the authorizer: %s", answer.Status.EvaluationError[:min(len(answer.Status.EvaluationError), maxMessage)])
	}
	return diagnosis.Look(answer.Status.Allowed, err)
}

// readerBindings are the RoleBindings, of any namespace, that give the account the reader's role.
func (g *gathering) readerBindings(ctx context.Context, a account) diagnosis.Known[[]string] {
	every := once(&g.memo, "rolebindings", func() diagnosis.Known[[]rbacv1.RoleBinding] {
		return diagnosis.Look(list(ctx, g.cluster, "/apis/rbac.authorization.k8s.io/v1/rolebindings", nil, pageSize,
			func(b rbacv1.RoleBinding) (rbacv1.RoleBinding, bool) { return b, b.RoleRef.Name == readerRole }))
	})
	if why := every.Why(); why != nil {
		return diagnosis.Unseen[[]string](why)
	}
	names := []string{}
	for _, b := range every.Value {
		if a.among(b.Subjects) {
			names = append(names, b.Namespace+"/"+b.Name)
		}
	}
	return diagnosis.Saw(names)
}

// grant is what one binding gives. A namespace bounds it; none means everywhere.
type grant struct {
	namespace string
	rules     []rbacv1.PolicyRule
}

// grants are all that RBAC gives the account, in kube-system and everywhere.
func (g *gathering) grants(ctx context.Context, a account) diagnosis.Known[[]grant] {
	const path = "/apis/rbac.authorization.k8s.io/v1"
	type reference struct {
		namespace, path string
	}
	var roles []reference
	everywhere, err := list(ctx, g.cluster, path+"/clusterrolebindings", nil, pageSize, func(b rbacv1.ClusterRoleBinding) (reference, bool) {
		return reference{path: path + "/clusterroles/" + b.RoleRef.Name}, a.among(b.Subjects)
	})
	if err != nil {
		return diagnosis.Unseen[[]grant](err)
	}
	inSystem, err := list(ctx, g.cluster, path+"/namespaces/kube-system/rolebindings", nil, pageSize, func(b rbacv1.RoleBinding) (reference, bool) {
		r := reference{metav1.NamespaceSystem, path + "/namespaces/kube-system/roles/" + b.RoleRef.Name}
		if b.RoleRef.Kind == "ClusterRole" {
			r.path = path + "/clusterroles/" + b.RoleRef.Name
		}
		return r, a.among(b.Subjects)
	})
	if err != nil {
		return diagnosis.Unseen[[]grant](err)
	}
	roles = append(everywhere, inSystem...)
	var found []grant
	for _, r := range roles {
		role := optional[rbacv1.ClusterRole](ctx, g.cluster, r.path) // a Role has rules in the same place
		if !role.Seen {
			return diagnosis.Unseen[[]grant](role.Why())
		}
		if role.Value != nil {
			found = append(found, grant{r.namespace, role.Value.Rules})
		}
	}
	return diagnosis.Saw(found)
}

// granted is true where RBAC gives a right. Where it does not, another authorizer may: that stays
// unknown, for the reason that the authorizers could not be asked.
func granted(grants []grant, what authorizationv1.ResourceAttributes, why error) diagnosis.Known[bool] {
	has := func(names []string, name string) bool {
		return slices.Contains(names, name) || slices.Contains(names, "*")
	}
	for _, g := range grants {
		if g.namespace != "" && g.namespace != what.Namespace {
			continue
		}
		for _, r := range g.rules {
			named := len(r.ResourceNames) == 0 || what.Name != "" && slices.Contains(r.ResourceNames, what.Name)
			if named && has(r.Verbs, what.Verb) && has(r.APIGroups, what.Group) && has(r.Resources, what.Resource) {
				return diagnosis.Saw(true)
			}
		}
	}
	return diagnosis.Unseen[bool](fmt.Errorf("no binding grants it, and whether another authorizer does may not be asked: %w", why))
}
