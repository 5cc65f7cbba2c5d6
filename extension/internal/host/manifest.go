package host

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Manifest is what must be applied to the host so that a server has its rights.
type Manifest struct {
	// ClusterRole are the rules of a ClusterRole of the server's own.
	ClusterRole []rbacv1.PolicyRule
	// Role are the rules of a Role in the server's namespace.
	Role []rbacv1.PolicyRule
	// Bind are roles of the host to bind to the server.
	Bind []Role
}

// ManifestOf gives the manifest for rights, in their order. A rule has all resources
// of a group that have the same verbs and names.
func ManifestOf(rights []Right) Manifest {
	var m Manifest
	for _, r := range rights {
		switch {
		case r.From != Role{}:
			if !slices.Contains(m.Bind, r.From) {
				m.Bind = append(m.Bind, r.From)
			}
		case r.Namespace != "":
			m.Role = addRule(m.Role, r.rule(r.Verbs))
		default:
			m.ClusterRole = addRule(m.ClusterRole, r.rule(r.Verbs))
		}
	}
	return m
}

// rule allows the verbs on what the right is about.
func (r Right) rule(verbs []string) rbacv1.PolicyRule {
	rule := rbacv1.PolicyRule{APIGroups: []string{r.Group}, Resources: []string{r.Resource}, Verbs: slices.Clone(verbs)}
	if r.Name != "" {
		rule.ResourceNames = []string{r.Name}
	}
	return rule
}

func addRule(rules []rbacv1.PolicyRule, add rbacv1.PolicyRule) []rbacv1.PolicyRule {
	for i, rule := range rules {
		if !slices.Equal(rule.APIGroups, add.APIGroups) || !slices.Equal(rule.Verbs, add.Verbs) {
			continue
		}
		switch {
		case slices.Equal(rule.ResourceNames, add.ResourceNames):
			if !slices.Contains(rule.Resources, add.Resources[0]) {
				rules[i].Resources = append(rule.Resources, add.Resources[0])
			}
			return rules
		case slices.Equal(rule.Resources, add.Resources) && len(rule.ResourceNames) > 0 && len(add.ResourceNames) > 0:
			rules[i].ResourceNames = append(rule.ResourceNames, add.ResourceNames[0])
			return rules
		}
	}
	return append(rules, add)
}
