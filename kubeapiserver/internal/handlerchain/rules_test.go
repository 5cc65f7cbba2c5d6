package handlerchain

import (
	"context"
	"errors"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// impersonations are what bob may impersonate in the way of old.
var impersonations = map[string][]string{
	"users": {"carol", "system:anonymous"}, "groups": {"team"}, "serviceaccounts": {"robot"}, "uids": {"uid-carol"}, "userextras": {"blue"},
}

// rules decide by user, verb and resource.
var rules = authorizer.AuthorizerFunc(decide)

func decide(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	name := a.GetUser().GetName()
	switch {
	case a.GetVerb() == "impersonate":
		if name == "bob" && slices.Contains(impersonations[a.GetResource()], a.GetName()) {
			return authorizer.DecisionAllow, "bob may", nil
		}
		return authorizer.DecisionNoOpinion, "not to be impersonated", nil
	case strings.HasPrefix(a.GetVerb(), "impersonate"):
		// Constrained impersonation, by verb and resource.
		if name == "alice" && (a.GetName() == "carol" || a.GetResource() == "widgets") {
			return authorizer.DecisionAllow, "alice may", nil
		}
		return authorizer.DecisionNoOpinion, "not in this way", nil
	case slices.Contains(a.GetUser().GetGroups(), user.SystemPrivilegedGroup):
		return authorizer.DecisionAllow, "", nil
	case a.GetResource() == "forbidden":
		return authorizer.DecisionDeny, "RBAC: no rule", nil
	case a.GetResource() == "broken":
		return authorizer.DecisionNoOpinion, "", errors.New("the authorizer is broken")
	case a.GetResource() == "bothered":
		return authorizer.DecisionAllow, "allowed all the same", errors.New("one of the authorizers is broken")
	case a.GetResource() == "unknown":
		return authorizer.DecisionNoOpinion, "", nil
	case name == user.Anonymous && a.GetResource() != "widgets" && !strings.HasPrefix(a.GetPath(), "/healthz"):
		return authorizer.DecisionNoOpinion, "anonymous", nil
	}
	return authorizer.DecisionAllow, "allowed by rule", nil
}
