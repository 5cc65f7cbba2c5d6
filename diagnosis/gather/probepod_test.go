package gather

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/testcerts"
)

// podHost has the Pods of the namespace shop, of which one may be created, and is the kubelet that
// runs it.
type podHost struct {
	mu      sync.Mutex
	pod     *corev1.Pod
	log     []byte
	deleted []string
	said    []string
	// start is what becomes of a Pod when it is asked about.
	start func(h *podHost)
	// others are Pods that are there already.
	others []any
}

const podsOfShop = "/api/v1/namespaces/shop/pods"

func (h *podHost) say(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, text)
}

func (h *podHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, podsOfShop), "/")
	switch {
	case r.Method == http.MethodPost:
		h.pod = &corev1.Pod{}
		if err := json.NewDecoder(r.Body).Decode(h.pod); err != nil {
			answerStatus(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
			return
		}
		h.pod.Status.Phase = corev1.PodPending
		answerJSON(w, http.StatusCreated, h.pod)
	case r.Method == http.MethodDelete:
		h.deleted = append(h.deleted, name)
		answerJSON(w, http.StatusOK, metav1.Status{Status: metav1.StatusSuccess})
	case name == "":
		answerJSON(w, http.StatusOK, map[string]any{"items": append([]any{}, h.others...)})
	case strings.HasSuffix(name, "/log"):
		_, _ = w.Write(h.log) // a client that is gone wants nothing
	default:
		h.start(h)
		answerJSON(w, http.StatusOK, h.pod)
	}
}

// runs runs the Pod's command here.
func runs(h *podHost) {
	command := h.pod.Spec.Containers[0].Command
	// It exits as the last request went; the log has them all.
	h.log, _ = exec.Command(command[0], command[1:]...).Output()
	h.pod.Status.Phase = corev1.PodFailed
}

// waiting has the Pod wait for ever, for a reason.
func waiting(reason, message string) func(*podHost) {
	return func(h *podHost) {
		h.pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: ProbeName, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
		}}
	}
}

// probe runs a probe of these addresses; the Service's cluster IP is 127.0.0.1.
func probe(ctx context.Context, t *testing.T, h *podHost, change func(*fake, *ProbePod), addresses ...string) ([]diagnosis.Endpoint, diagnosis.Known[diagnosis.Attempt]) {
	t.Helper()
	f := newFake(t)
	f.otherwise = h.ServeHTTP
	wanted := &ProbePod{Say: h.say}
	if change != nil {
		change(f, wanted)
	}
	g := &gathering{Options: Options{ProbePod: wanted}, cluster: f.cluster(t)}
	a, service := apiService(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "things"}, Spec: corev1.ServiceSpec{ClusterIP: "127.0.0.1"}}
	nobody := int32(1)
	a.Spec.Service.Port = &nobody
	var found []diagnosis.Endpoint
	for _, address := range addresses {
		found = append(found, diagnosis.Endpoint{Address: address, Ready: true})
	}
	facts := &diagnosis.APIServiceFacts{}
	g.probePod(ctx, &a, question{serverName: "things.shop.svc", path: "/apis/things.example.com/v1"}, service, facts, found)
	return found, facts.ServiceFromPod
}

func TestProbePodAsksEndpointsAndService(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("the Pod's command is run here, and there is no curl")
	}
	ca := testcerts.New("an authority")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Host != "things.shop.svc" || r.URL.Path != "/apis/things.example.com/v1" {
			t.Errorf("asked for %s as %q at host %q", r.URL.Path, r.Header.Get("Authorization"), r.Host)
		}
		http.Error(w, "\n"+probeLine+`0 {"http_code":200}`, http.StatusForbidden) // it lies
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Issue(testcerts.Subject{Name: "things", Hosts: []string{"things.shop.svc"}}).TLS()}}
	server.StartTLS()
	t.Cleanup(server.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := listener.Addr().String()
	_ = listener.Close() // nobody listens there now

	h := &podHost{start: runs}
	got, service := probe(t.Context(), t, h, nil, server.Listener.Addr().String(), plain.Listener.Addr().String(), gone)
	if a := got[0].ProbePod.Value; a.GroupVersion == nil || a.GroupVersion.Code != http.StatusForbidden || len(a.Chain) != 1 || a.Chain[0].Subject.CommonName != "things" {
		t.Errorf("a server that answers: %+v", a)
	}
	if a := got[1].ProbePod.Value; a.Failure != "" || a.TLSFailure == "" {
		t.Errorf("no TLS: %+v", a)
	}
	if a := got[2].ProbePod.Value; a.Failure == "" {
		t.Errorf("nobody listens: %+v", a)
	}
	if a, seen := service.Get(); !seen || a.Failure == "" {
		t.Errorf("a Service that leads nowhere: %+v", service)
	}
	if len(h.deleted) != 1 || h.deleted[0] != h.pod.Name {
		t.Errorf("created %s, deleted %q", h.pod.Name, h.deleted)
	}
	if len(h.said) != 1 || !strings.Contains(h.said[0], "Creating Pod shop/"+h.pod.Name) || !strings.Contains(h.said[0], ProbeImage) {
		t.Errorf("said %q", h.said)
	}
}

func TestProbePodIsRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	pod := probeManifest("shop", "probe", ProbeImage, 120, curl(question{}, []string{"10.1.0.7:8443"}))
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
		if !result.Allowed {
			t.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
	if s := pod.Spec; *s.AutomountServiceAccountToken || *s.ActiveDeadlineSeconds != 120 || s.RestartPolicy != corev1.RestartPolicyNever || s.HostNetwork {
		t.Errorf("got %+v", s)
	}
}

func TestProbePodIsDeletedHoweverItEnds(t *testing.T) {
	for name, c := range map[string]struct {
		start  func(*podHost)
		change func(*fake, *ProbePod)
		// cancels ends the context when the Pod is looked at.
		cancels bool
		want    error
		says    string
	}{
		"stopped":       {start: waiting("ContainerCreating", ""), cancels: true, want: context.Canceled},
		"no image":      {start: waiting("ErrImagePull", "not found"), says: "ErrImagePull: not found"},
		"never starts":  {start: waiting("ContainerCreating", "no network"), change: func(_ *fake, p *ProbePod) { p.Timeout = time.Second }, want: diagnosis.ErrTimedOut, says: "no network"},
		"ended by time": {start: func(h *podHost) { h.pod.Status.Phase, h.pod.Status.Reason = corev1.PodFailed, "DeadlineExceeded" }, want: diagnosis.ErrTimedOut},
		"no curl": {start: func(h *podHost) {
			h.pod.Status.Phase = corev1.PodFailed
			h.pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: `exec: "curl": not found`}}}}
		}, says: `exec: "curl": not found`},
		"another curl": {start: func(h *podHost) {
			h.pod.Status.Phase, h.log = corev1.PodFailed, []byte("curl: option --connect-to: is unknown\n")
		}, says: "is unknown"},
		"no log": {start: func(h *podHost) { h.pod.Status.Phase = corev1.PodSucceeded }, says: "it wrote nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			h := &podHost{start: func(h *podHost) {
				if c.start(h); c.cancels {
					cancel()
				}
			}}
			got, _ := probe(ctx, t, h, c.change, "10.1.0.7:8443")
			why := got[0].ProbePod.Why()
			if got[0].ProbePod.Seen || c.want != nil && !errors.Is(why, c.want) || !strings.Contains(why.Error(), c.says) {
				t.Errorf("got %v", why)
			}
			if len(h.deleted) != 1 || h.deleted[0] != h.pod.Name {
				t.Errorf("deleted %q", h.deleted)
			}
		})
	}
}

// Whoever hears nothing of what is created cannot know that it is not there.
func TestProbePodIsDeletedWhereItsCreationIsNotAnswered(t *testing.T) {
	h := &podHost{}
	got, _ := probe(t.Context(), t, h, func(f *fake, _ *ProbePod) {
		f.handle(podsOfShop, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				h.ServeHTTP(w, r)
				return
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		})
	}, "10.1.0.7:8443")
	if got[0].ProbePod.Seen || h.pod == nil || len(h.deleted) != 1 || h.deleted[0] != h.pod.Name {
		t.Errorf("created %v, deleted %q", h.pod, h.deleted)
	}
}

func TestProbePodThatIsForbidden(t *testing.T) {
	h := &podHost{}
	got, service := probe(t.Context(), t, h, func(f *fake, _ *ProbePod) { f.otherwise = forbid }, "10.1.0.7:8443")
	if !errors.Is(got[0].ProbePod.Why(), diagnosis.ErrForbidden) || !errors.Is(service.Why(), diagnosis.ErrForbidden) {
		t.Errorf("got %v, %v", got[0].ProbePod, service)
	}
	if len(h.said) != 2 || !strings.Contains(h.said[1], "showed nothing") {
		t.Errorf("said %q", h.said)
	}
}

func TestProbePodsOfKilledRunsAreDeleted(t *testing.T) {
	old := func(name, label, reason string) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: "1", Labels: map[string]string{ProbeLabel: label}},
			Status:     corev1.PodStatus{Phase: corev1.PodFailed, Reason: reason},
		}
	}
	h := &podHost{
		start:  waiting("InvalidImageName", ""),
		others: []any{old("killed", ProbeName, "DeadlineExceeded"), old("others", "another", "DeadlineExceeded"), old("running", ProbeName, "")},
	}
	probe(t.Context(), t, h, nil, "10.1.0.7:8443")
	if len(h.deleted) != 2 || h.deleted[0] != "killed" || h.deleted[1] != h.pod.Name {
		t.Errorf("deleted %q", h.deleted)
	}
}

func TestNoProbePodUnlessItIsWanted(t *testing.T) {
	f := newFake(t)
	f.shop()
	f.otherwise = func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/pods") {
			t.Errorf("a Pod is created")
		}
		_, _ = io.Copy(io.Discard, r.Body) // what else is asked for is not there
		answerStatus(w, http.StatusNotFound, metav1.StatusReasonNotFound, "not there")
	}
	if why := facts(t, f, nil).APIServices[things].Endpoints.Value[0].ProbePod.Why(); why != diagnosis.ErrNotAsked {
		t.Errorf("got %v", why)
	}
}
