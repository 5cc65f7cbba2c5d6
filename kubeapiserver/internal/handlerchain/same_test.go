package handlerchain

import (
	"crypto/x509"
	"flag"
	"net/http"
	"os"
	"slices"
	"testing"

	"github.com/go-logr/logr"
	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	apimetrics "k8s.io/apiserver/pkg/endpoints/metrics"
	genericapiserver "k8s.io/apiserver/pkg/server"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	flowcontrolmetrics "k8s.io/apiserver/pkg/util/flowcontrol/metrics"
	"k8s.io/component-base/featuregate"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/kubeapiserver/internal/connauth"
)

// reference is the chain that has the effects which ours must have.
var reference chain = genericapiserver.DefaultBuildHandlerChain

// ours is the chain that is compared with it, as the server sets it up: with an
// authenticator that remembers certificates.
func ours(handler http.Handler, c *genericapiserver.Config) http.Handler {
	if c.Authentication.Authenticator != nil {
		// The x509 authenticator counts how long the certificate lasts before it
		// verifies anything.
		counter := x509request.New(x509.VerifyOptions{Roots: x509.NewCertPool()}, x509request.CommonNameUserConversion)
		c.Authentication.Authenticator = connauth.Remember(c.Authentication.Authenticator, c.SecureServing.ClientCA,
			c.Authentication.RequestHeaderConfig, func(r *http.Request, _ *x509.Certificate) {
				_, _, _ = counter.AuthenticateRequest(r) // refused: it trusts nobody
			})
	}
	return Build(handler, c)
}

// verbosity holds the flags of the log.
var verbosity = flag.NewFlagSet("klog", flag.ContinueOnError)

func setVerbosity(t *testing.T, level string) {
	t.Helper()
	if err := verbosity.Set("v", level); err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	klog.InitFlags(verbosity)
	klog.SetLogger(logr.New(&accessLog))
	apimetrics.Register()
	flowcontrolmetrics.Register()
	os.Exit(m.Run())
}

// TestSameEffects sends the same requests to the reference's chain and to ours,
// and compares all that can be told of them.
func TestSameEffects(t *testing.T) {
	ids := newIdentities(t)
	for _, s := range settings {
		t.Run(s.name, func(sub *testing.T) {
			for gate, on := range s.gates {
				featuregatetesting.SetFeatureGateDuringTest(sub, utilfeature.DefaultFeatureGate, featuregate.Feature(gate), on)
			}
			if s.level != "" {
				setVerbosity(sub, s.level)
				defer setVerbosity(sub, "0")
			}
			p := pair{newWorld(t, ids, reference, s.change), newWorld(t, ids, ours, s.change)}
			defer p.stop()
			p.warm(sub)
			for _, c := range slices.Concat(calls...) {
				if (s.all || c.core) && (!c.behind || s.narrow) {
					p.compare(sub, s, c)
				}
			}
			if got := p.ours.inner.claimed.Load() > 0; got == s.slow {
				sub.Errorf("requests went through the claimed chain: %v, want %v", got, !s.slow)
			}
		})
	}
}

// pair is two worlds with the same settings.
type pair struct{ reference, ours *world }

func (p pair) warm(t *testing.T) {
	t.Helper()
	for _, w := range []*world{p.reference, p.ours} {
		w.warm(t)
		w.inner.claimed.Store(0)
		w.warm(t)
		w.broken.Store(true)
	}
}

// stop begins the end of both; the test that made them waits for it.
func (p pair) stop() {
	p.reference.stop()
	p.ours.stop()
}

func (p pair) compare(t *testing.T, s setting, c call) {
	t.Helper()
	for _, proto := range []string{"h2", "http/1.1"} {
		switch {
		case c.only != "" && c.only != proto, s.only != "" && s.only != proto:
			continue
		case proto == "http/1.1" && c.only == "" && s.only == "" && !s.both:
			continue
		}
		t.Run(c.name+" "+proto, func(t *testing.T) {
			d := ""
			for range tries(c) {
				if d = p.difference(t, s, c, proto); d == "" {
					return
				}
			}
			t.Errorf("the chains differ (-reference +ours):\n%s", d)
		})
	}
}

// tries is how often a call may be sent until its outcomes are alike. Calls with
// a deadline are at the mercy of the scheduler.
func tries(c call) int {
	if c.late {
		return 3
	}
	return 1
}

func (p pair) difference(t *testing.T, s setting, c call, proto string) string {
	t.Helper()
	want := p.reference.observe(t, proto, c, nil)
	if want.Uncounted {
		return "the filter that watches the deadline was later than the handler"
	}
	like := func(got *observation) string {
		want := want
		want.Answers, want.Seen = slices.Clone(want.Answers), slices.Clone(want.Seen)
		if !s.slow {
			expect(c, p.ours.config, &want, got)
		}
		if c.session {
			longRunningSession(&want)
		}
		return diff(want, *got)
	}
	got := p.ours.observe(t, proto, c, like)
	return like(&got)
}

// expect changes what the reference does where ours is meant to differ.
func expect(c call, config *genericapiserver.Config, want, got *observation) {
	if config.AuditBackend == nil || config.AuditPolicyRuleEvaluator == nil {
		// What is tracked becomes annotations of audit events, and these are seen
		// in audit events only.
		for _, o := range []*observation{want, got} {
			for i := range o.Seen {
				o.Seen[i].Latency, o.Seen[i].AuditLevel, o.Seen[i].Annotations = false, "", nil
			}
		}
	}
	if c.differs != nil {
		c.differs(config, want)
	}
}
