package diagnosis

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/printable"
)

// Stage is a part of the way of a request.
type Stage string

// The stages, in the order of the way.
const (
	Registration Stage = "registration"
	Endpoints    Stage = "endpoints"
	Network      Stage = "network"
	TLS          Stage = "TLS"
	Identity     Stage = "identity"
	Answers      Stage = "answers"
	Documents    Stage = "documents"
	Cluster      Stage = "cluster"
)

// branch is a row of checks that a fatal fault ends.
type branch int

const (
	// way is the request's: what is behind a broken link cannot be judged.
	way branch = iota
	// server is what the extension server itself needs. It can be judged while no request reaches it.
	server
	// cluster is who suffers, and what API servers say.
	cluster
)

// check is one question. Its name is a sentence that holds where it passes.
type check struct {
	name   string
	stage  Stage
	branch branch
	// file says that it needs nothing that runs: it can be made before the APIService is applied.
	file bool
	run  func(*look)
}

// checks are all of them, as a request travels.
func checks() []check {
	return []check{
		{"the APIService exists", Registration, way, true, checkExists},
		{"no other extension server claims its group version", Registration, way, true, checkClaims},
		{"no custom resource is hidden by it", Registration, way, true, checkCustomResources},
		{"its Service exists", Registration, way, true, checkService},
		{"the Service listens on its port", Registration, way, true, checkServicePort},

		{"the extension server is past its start", Endpoints, way, false, checkStarting},
		{"a Pod is ready behind the Service", Endpoints, way, false, checkEndpoints},
		{"the Pods listen on the Service's target port", Endpoints, way, true, checkTargetPort},
		{"each endpoint gets its share of requests", Endpoints, way, false, checkEachEndpoint},
		{"no endpoint is on a lost node", Endpoints, way, false, checkNodes},

		{"API server and extension server reach each other's network", Network, way, false, checkNetwork},
		{"connections to the extension server stand", Network, way, false, checkTimeout},

		{"the CA bundle holds certificates", TLS, way, true, checkCABundle},
		{"the extension server speaks TLS", TLS, way, false, checkSpeaksTLS},
		{"the serving certificate is valid at this time", TLS, way, false, checkServingTime},
		{"the serving certificate is for the Service's name", TLS, way, false, checkServingNames},
		{"the CA bundle is that of the serving certificate", TLS, way, false, checkServingAuthority},
		{"no certificate is about to expire", TLS, way, true, checkExpiry},

		{"the API server is set up for aggregation", Identity, server, true, checkRequestHeader},
		{"the front proxy's certificate is valid and allowed", Identity, server, false, checkFrontProxy},
		{"the extension server may read how the API server authenticates", Identity, server, true, checkAuthenticationReader},
		{"the extension server may ask who is allowed what", Identity, server, true, checkDelegator},
		{"the extension server may watch what it needs", Identity, server, true, checkInformers},
		{"the extension server reaches the API server", Identity, server, false, checkReachesAPIServer},
		{"the extension server trusts the kubelets that it reads from", Identity, server, false, checkKubelets},
		{"the extension server trusts the front proxy", Identity, way, false, checkTrust},

		{"the group version is served", Answers, way, false, checkGroupVersion},
		{"the extension server itself answers", Answers, way, false, checkResponder},
		{"answers come in time", Answers, way, false, checkSlow},
		{"the API server's check passes", Answers, way, false, checkCondition},
		{"discovery is fresh", Answers, cluster, false, checkDiscovery},
		{"no request is refused for want of room", Answers, cluster, false, checkLimits},
		{"clients that prefer protobuf are answered", Answers, way, false, checkProtobuf},
		{"objects can be applied", Answers, way, false, checkApply},
		{"lists hold what is stored", Answers, server, false, checkStorage},

		{"watches end their initial events", Documents, way, false, checkWatchList},
		{"its OpenAPI documents can be used", Documents, cluster, false, checkOpenAPI},

		{"API servers agree on it", Cluster, cluster, false, checkViews},
		{"it does not flap", Cluster, cluster, false, checkFlaps},
		{"clocks agree", Cluster, cluster, true, checkClock},
		{"Annex knows of nothing else", Cluster, cluster, false, checkRemoteFaults},
		{"nobody suffers", Cluster, cluster, false, checkAffected},
	}
}

// Diagnose says what is wrong with an APIService.
func Diagnose(f *Facts, name string) Report {
	l := newLook(f, name)
	report := Report{APIService: printable.Line(name, maxField)}
	stopped := map[branch]bool{}
	for _, c := range checks() {
		if l.a.File && !c.file {
			continue
		}
		step := Step{Stage: c.stage, Check: c.name, Result: Passed}
		if stopped[c.branch] {
			step.Result = NotReached
			report.Steps = append(report.Steps, step)
			continue
		}
		l.current = c.name
		findings, blind := len(l.findings), len(l.unseen)
		l.unwanted = false
		c.run(l)
		if l.unwanted {
			continue
		}
		for _, found := range l.findings[findings:] {
			step.Codes = append(step.Codes, found.Code)
			if faults().byCode[found.Code].Fatal && found.Confidence != Possible {
				stopped[c.branch] = true
				// Without a Service there is no extension server to look at.
				stopped[server] = stopped[server] || c.stage == Registration
			}
		}
		switch {
		case len(step.Codes) > 0:
			step.Result = Found
		case len(l.unseen) > blind:
			step.Result = NotSeen
		}
		report.Steps = append(report.Steps, step)
		if l.object != nil && l.object.Spec.Service == nil {
			report.Local = true
			break
		}
		if l.has(APIServiceNotFound) {
			break
		}
	}
	report.Findings, report.Unseen = arrange(l.findings), l.unseen
	return report
}

// look is one diagnosis under way.
type look struct {
	f      *Facts
	a      *APIServiceFacts
	name   string
	object *apiregistrationv1.APIService // nil if it is not there, or was not seen
	fields Fields
	// texts are the failures that were seen, see failures.
	texts []failure

	current string
	// unwanted is set by a check about what is seen only if the caller wants it, and was not asked
	// for: the report leaves it out.
	unwanted bool
	findings []Finding
	unseen   []Blind
}

func newLook(f *Facts, name string) *look {
	if f == nil {
		f = &Facts{}
	}
	l := &look{f: f, a: f.APIServices[name], name: name}
	if l.a == nil {
		l.a = &APIServiceFacts{}
	}
	if l.object = l.a.Object.Value; l.object == nil && !l.a.Object.Seen {
		for i, other := range f.Cluster.APIServices.Value {
			if other.Name == name {
				l.object = &f.Cluster.APIServices.Value[i]
			}
		}
	}
	l.fields = l.fill()
	l.texts = l.failures()
	return l
}

// need is a fact, and whether it was seen; the report says so if it was not.
func need[T any](l *look, what string, k Known[T]) (T, bool) {
	if err := k.Why(); err != nil {
		l.blind(what, err)
		return k.Value, false
	}
	return k.Value, true
}

// blind notes what could not be seen.
func (l *look) blind(what string, why error) {
	l.unseen = append(l.unseen, Blind{Check: l.current, What: what, Why: printable.Line(why.Error(), maxValue)})
}

// found notes a fault. If it was found before, the surer of the two findings stays.
func (l *look) found(code Code, c Confidence, fields Fields, format string, args ...any) {
	l.foundAs(faults().byCode[code].Severity, code, c, fields, format, args...)
}

// foundAs is found with another severity than the fault usually has.
func (l *look) foundAs(s Severity, code Code, c Confidence, fields Fields, format string, args ...any) {
	fault := faults().byCode[code]
	finding := Finding{
		Code: code, Name: fault.Name, Title: fault.Title, Severity: s, Confidence: c,
		Evidence: sentence(format, args...), Remedy: render(code, fields), See: code.See(),
	}
	for i, other := range l.findings {
		if other.Code == code {
			if surer(c, other.Confidence) {
				l.findings[i] = finding
			}
			return
		}
	}
	l.findings = append(l.findings, finding)
}

func (l *look) has(code Code) bool {
	return slices.ContainsFunc(l.findings, func(f Finding) bool { return f.Code == code })
}

func surer(a, b Confidence) bool {
	order := []Confidence{Certain, Likely, Possible}
	return slices.Index(order, a) < slices.Index(order, b)
}

// remote is what Annex says of the APIService; nil elsewhere.
func (l *look) remote() *v1alpha1.RemoteAPIServiceStatus {
	if r := l.a.Remote.Value; r != nil {
		return &r.Status
	}
	return nil
}

// available is the condition Available; its status is empty where there is none.
func (l *look) available() apiregistrationv1.APIServiceCondition {
	if l.object != nil && !l.a.File {
		for _, c := range l.object.Status.Conditions {
			if c.Type == apiregistrationv1.Available {
				return c
			}
		}
	}
	return apiregistrationv1.APIServiceCondition{}
}

// failing says that requests for the APIService are refused.
func (l *look) failing() bool {
	if r := l.remote(); r != nil && r.State == v1alpha1.Unavailable {
		return true
	}
	status := l.available().Status
	return status == apiregistrationv1.ConditionFalse || status == apiregistrationv1.ConditionUnknown
}

// trouble says that something is wrong, so that a line in a log may be the reason. Old lines of a
// server that is well tell nothing.
func (l *look) trouble() bool {
	if l.failing() || l.a.File {
		return true
	}
	for _, answer := range []Known[Answer]{l.a.GroupVersion, l.a.List, l.a.Protobuf} {
		if code := answer.Value.Code; code >= 500 || code == 401 || code == 403 && !l.refusesCaller(answer.Value) {
			return true
		}
	}
	return slices.ContainsFunc(l.a.Pods.Value, func(p Pod) bool {
		return !ready(&p.Object) && p.Object.DeletionTimestamp == nil && !l.starts(&p.Object)
	})
}

// refusesCaller says that an answer, 403, tells the caller what it may not do. That shows nothing of
// the extension server: in most clusters few may list what it serves.
func (l *look) refusesCaller(a Answer) bool {
	if a.Status == nil {
		return false
	}
	_, rest, _ := strings.Cut(a.Status.Message, `User "`)
	user, _, named := strings.Cut(rest, `"`)
	proxies, _ := l.proxyNames()
	return named && user != "system:anonymous" && !slices.Contains(proxies, user) &&
		!strings.Contains(a.Status.Message, "subjectaccessreviews") && !strings.Contains(a.Status.Message, "tokenreviews")
}

// now is the API server's clock; zero where no clock is known.
func (l *look) now() time.Time {
	if l.f.Now.IsZero() {
		return time.Time{}
	}
	return l.f.Now.Add(l.f.Cluster.ClockSkew.Value)
}

// recent says that something happened at most so long ago.
func (l *look) recent(t metav1.Time, within time.Duration) bool {
	now := l.now()
	return !now.IsZero() && !t.IsZero() && now.Sub(t.Time) < within
}
