package kubeapiserver

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/console"
	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/diagnosis/gather"
	"github.com/annex-api/annex/internal/printable"
)

const (
	// diagnosesAtOnce is how many the page has under way in an API server, whose memory is for its
	// clients first.
	diagnosesAtOnce = 1
	// maxDiagnosisError bounds what the page says of a diagnosis that failed, in bytes.
	maxDiagnosisError = 1000
)

// installConsole serves the web page to whoever may get RemoteAPIServices. It stands behind
// authentication and authorization as any path does; the ClusterRole annex:console gives the path
// to every user.
//
// The path is in no list of paths, which stays kube-apiserver's. What the page reads it asks this server
// for, as the browser's user, and so does its doctor.
func installConsole(server *genericapiserver.GenericAPIServer, authorizer authorizer.Authorizer, loopback *rest.Config) {
	page := console.Handler(console.Options{
		Allowed: mayGetRemoteAPIServices(authorizer), Diagnose: diagnoseAs(loopback), Diagnoses: diagnosesAtOnce,
	})
	mux := server.Handler.NonGoRestfulMux
	mux.UnlistedHandle(strings.TrimSuffix(console.Path, "/"), page)
	mux.UnlistedHandlePrefix(console.Path, page)
}

// mayGetRemoteAPIServices asks for the request's user. There is no authorizer where the host of the
// chain lets everybody do everything.
func mayGetRemoteAPIServices(a authorizer.Authorizer) func(*http.Request) (bool, error) {
	if a == nil {
		return nil
	}
	return func(r *http.Request) (bool, error) {
		user, ok := request.UserFrom(r.Context())
		if !ok {
			return false, nil
		}
		decision, _, err := a.Authorize(r.Context(), authorizer.AttributesRecord{
			User: user, Verb: "get", ResourceRequest: true, Path: r.URL.Path,
			APIGroup: v1alpha1.GroupVersion.Group, APIVersion: v1alpha1.GroupVersion.Version, Resource: "remoteapiservices",
		})
		return decision == authorizer.DecisionAllow, err
	}
}

// diagnoseAs is doctor with the rights of the request's user, and no others: this server asks itself in
// that user's name, as kubectl --as does, so that each question is authorized, limited and audited as the
// user's own.
func diagnoseAs(loopback *rest.Config) func(*http.Request, string) (console.Verdict, error) {
	return func(r *http.Request, name string) (console.Verdict, error) {
		asking, ok := request.UserFrom(r.Context())
		if !ok {
			return console.Verdict{}, errors.New("nobody is known who asks")
		}
		config := rest.CopyConfig(loopback)
		var err error
		if config.Impersonate, err = inTheNameOf(asking); err != nil {
			return console.Verdict{}, err
		}
		facts, err := gather.Facts(r.Context(), gather.Options{Config: config, Names: []string{name}})
		if err != nil {
			return console.Verdict{}, fmt.Errorf("%w: %s", errLook, printable.Line(err.Error(), maxDiagnosisError))
		}
		return console.VerdictOf(diagnosis.Diagnose(&facts, name)), nil
	}
}

var (
	errLook = errors.New("doctor cannot look at the APIService with your rights")
	errName = errors.New("doctor cannot ask in your name, which would arrive as another one: use annex console, or annex doctor")
)

// inTheNameOf is how a user is impersonated. The names of some cannot be sent in headers as they are:
// they would arrive as those of somebody else.
func inTheNameOf(u user.Info) (rest.ImpersonationConfig, error) {
	c := rest.ImpersonationConfig{UserName: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()}
	values := slices.Concat([]string{c.UserName}, c.Groups)
	if c.UID != "" {
		values = append(values, c.UID)
	}
	for key, all := range c.Extra {
		if key == "" || key != strings.ToLower(key) || len(all) == 0 {
			return rest.ImpersonationConfig{}, errName
		}
		values = append(values, all...)
	}
	for _, v := range values {
		if v == "" || v != strings.TrimSpace(v) || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return rest.ImpersonationConfig{}, errName
		}
	}
	return c, nil
}
