package host

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Feature is something that a server does only where its host has the objects for it
// and lets it.
type Feature string

// The features, in the words of log lines.
const (
	Authentication     Feature = "delegated authentication"
	Authorization      Feature = "delegated authorization"
	NamespaceLifecycle Feature = "the refusal of objects in namespaces that are missing or going"
	Webhooks           Feature = "admission webhooks"
	ValidatingPolicies Feature = "validating admission policies"
	MutatingPolicies   Feature = "mutating admission policies"
	Fairness           Feature = "priority and fairness"
	Registration       Feature = "registration"
	SharedCertificate  Feature = "a certificate shared by replicas"
	LeaderElection     Feature = "leader election"
	Events             Feature = "events"
)

// Role is a role that every host has and that gives a right. Namespace is empty for a
// ClusterRole.
type Role struct{ Namespace, Name string }

// Right is something that a server must be allowed to do at its host.
type Right struct {
	For Feature
	// Group, Version and Resource are what the host must serve. Resource may have a
	// subresource behind a slash.
	Group, Version, Resource string
	// Namespace and Name narrow it; all if they are empty.
	Namespace, Name string
	Verbs           []string
	// From is the role of the host that gives it, if there is one.
	From Role
	// Without says what happens without it, if the feature works all the same.
	Without string
}

// Server says what is a server's own at its host.
type Server struct {
	// APIServices are the names of those that it registers, Owner is the ClusterRole
	// that owns them.
	APIServices []string
	Owner       string
	// Secret has the certificate that replicas share, Lease says who of them leads.
	Secret, Lease types.NamespacedName
	// Events says that its controllers write events.
	Events bool
}

// The roles of every host that are made for extension servers.
var (
	delegator = Role{Name: "system:auth-delegator"}
	reader    = Role{Namespace: metav1.NamespaceSystem, Name: "extension-apiserver-authentication-reader"}
)

// Rights is the one list of what a server may have to do at its host. The manifest and
// the check at the start are made of it.
func (s Server) Rights() []Right {
	look, see := []string{"get", "list", "watch"}, []string{"list", "watch"}
	const (
		admission = "admissionregistration.k8s.io"
		flow      = "flowcontrol.apiserver.k8s.io"
	)
	rights := []Right{
		{For: Authentication, Group: "authentication.k8s.io", Version: "v1", Resource: "tokenreviews", Verbs: []string{"create"}, From: delegator},
		{For: Authentication, Version: "v1", Resource: "configmaps", Namespace: metav1.NamespaceSystem, Name: "extension-apiserver-authentication", Verbs: look, From: reader},
		{For: Authorization, Group: "authorization.k8s.io", Version: "v1", Resource: "subjectaccessreviews", Verbs: []string{"create"}, From: delegator},

		{For: NamespaceLifecycle, Version: "v1", Resource: "namespaces", Verbs: look},
		{For: Webhooks, Version: "v1", Resource: "namespaces", Verbs: look},
		{For: Webhooks, Group: admission, Version: "v1", Resource: "mutatingwebhookconfigurations", Verbs: see},
		{For: Webhooks, Group: admission, Version: "v1", Resource: "validatingwebhookconfigurations", Verbs: see},
		{For: ValidatingPolicies, Version: "v1", Resource: "namespaces", Verbs: look},
		{For: ValidatingPolicies, Group: admission, Version: "v1", Resource: "validatingadmissionpolicies", Verbs: see},
		{For: ValidatingPolicies, Group: admission, Version: "v1", Resource: "validatingadmissionpolicybindings", Verbs: see},
		{For: MutatingPolicies, Version: "v1", Resource: "namespaces", Verbs: look},
		{For: MutatingPolicies, Group: admission, Version: "v1", Resource: "mutatingadmissionpolicies", Verbs: see},
		{For: MutatingPolicies, Group: admission, Version: "v1", Resource: "mutatingadmissionpolicybindings", Verbs: see},

		{For: Fairness, Group: flow, Version: "v1", Resource: "flowschemas", Verbs: see},
		{For: Fairness, Group: flow, Version: "v1", Resource: "prioritylevelconfigurations", Verbs: see},
		{
			For: Fairness, Group: flow, Version: "v1", Resource: "flowschemas/status", Verbs: []string{"patch"},
			Without: "this server does not say which FlowSchemas lead nowhere",
		},
	}
	const registration = "apiregistration.k8s.io"
	for _, name := range s.APIServices {
		rights = append(rights,
			Right{For: Registration, Group: registration, Version: "v1", Resource: "apiservices", Name: name, Verbs: []string{"get", "create", "patch"}},
			Right{
				For: Registration, Group: registration, Version: "v1", Resource: "apiservices", Name: name, Verbs: see,
				Without: "what others change is seen after half a minute",
			})
	}
	if s.Owner != "" {
		rights = append(rights, Right{
			For: Registration, Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles", Name: s.Owner, Verbs: []string{"get"},
			Without: "the APIServices stay when the server is uninstalled",
		})
	}
	if s.Secret.Name != "" {
		rights = append(rights,
			Right{For: SharedCertificate, Version: "v1", Resource: "secrets", Namespace: s.Secret.Namespace, Name: s.Secret.Name, Verbs: []string{"get", "update"}},
			// A right to create cannot be narrowed to a name.
			Right{
				For: SharedCertificate, Version: "v1", Resource: "secrets", Namespace: s.Secret.Namespace, Verbs: []string{"create"},
				Without: "the Secret must be there, and may be empty",
			})
	}
	if s.Lease.Name != "" {
		rights = append(rights,
			Right{For: LeaderElection, Group: "coordination.k8s.io", Version: "v1", Resource: "leases", Namespace: s.Lease.Namespace, Name: s.Lease.Name, Verbs: []string{"get", "update"}},
			Right{For: LeaderElection, Group: "coordination.k8s.io", Version: "v1", Resource: "leases", Namespace: s.Lease.Namespace, Verbs: []string{"create"}})
	}
	if s.Events {
		for _, group := range []string{"", "events.k8s.io"} {
			rights = append(rights, Right{
				For: Events, Group: group, Version: "v1", Resource: "events", Verbs: []string{"create", "patch"},
				Without: "controllers write no events",
			})
		}
	}
	return slices.Clip(rights)
}
