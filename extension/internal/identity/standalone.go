package identity

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"github.com/annex-api/annex/extension/internal/inprocess"
)

// The groups of a server without a host. Beside them, system:masters may do everything.
const (
	// Admins may do everything.
	Admins = "admin"
	// Viewers may get, list and watch.
	Viewers = "view"
)

// Standalone has the server decide by itself. tokens are bearer tokens and whose they
// are; who else comes is system:anonymous, who may read its health and nothing else.
func Standalone(tokens map[string]user.Info, config *genericapiserver.Config) error {
	config.Authentication.Authenticator = union.NewFailOnError( // a wrong token is nobody, and not anonymous
		group.NewAuthenticatedGroupAdder(union.New(inprocess.Authenticator(), bearertoken.New(known(tokens)))),
		anonymous.NewAuthenticator(nil),
	)
	var err error
	config.Authorization.Authorizer, err = authorize(authorizer.AuthorizerFunc(byGroup))
	return err
}

// known compares digests, so that how long it takes tells nothing of a token.
func known(tokens map[string]user.Info) authenticator.TokenFunc {
	type entry struct {
		digest [sha256.Size]byte
		who    user.Info
	}
	var entries []entry
	for token, who := range tokens {
		entries = append(entries, entry{sha256.Sum256([]byte(token)), who})
	}
	return func(_ context.Context, token string) (*authenticator.Response, bool, error) {
		digest := sha256.Sum256([]byte(token))
		for _, e := range entries {
			if subtle.ConstantTimeCompare(e.digest[:], digest[:]) == 1 {
				return &authenticator.Response{User: e.who}, true, nil
			}
		}
		return nil, false, nil
	}
}

// byGroup allows by the groups of a user. Discovery and documents are for everyone who is
// known, as in every cluster.
func byGroup(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	for _, g := range a.GetUser().GetGroups() {
		switch {
		case g == Admins,
			g == Viewers && a.IsReadOnly(),
			g == user.AllAuthenticated && !a.IsResourceRequest() && a.IsReadOnly():
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, fmt.Sprintf("of this server's groups, %s may do everything and %s may read", Admins, Viewers), nil
}
