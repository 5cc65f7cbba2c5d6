package kubeapiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	aggregationv1alpha1 "github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

func terminating(name, message string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NamespaceStatus{
		Phase:      corev1.NamespaceTerminating,
		Conditions: []corev1.NamespaceCondition{{Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionTrue, Message: message}},
	}}
}

func autoscaler(name, reason string) *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Status: autoscalingv2.HorizontalPodAutoscalerStatus{
		Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: corev1.ConditionFalse, Reason: reason}},
	}}
}

func remoteAPIService(group string, state aggregationv1alpha1.State) aggregationv1alpha1.RemoteAPIService {
	return aggregationv1alpha1.RemoteAPIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1." + group},
		Status:     aggregationv1alpha1.RemoteAPIServiceStatus{Group: group, Version: "v1", State: state},
	}
}

func TestAffected(t *testing.T) {
	objects := []runtime.Object{
		terminating("one", "a.test/v1: stale GroupVersion discovery: a.test/v1, custom.metrics.k8s.io/v1: stale"),
		terminating("two", "custom.metrics.k8s.io/v1: stale"),
		terminating("three", "metrics.k8s.io/v1: stale"),
		autoscaler("pods", "FailedGetPodsMetric"), autoscaler("object", "FailedGetObjectMetric"),
		autoscaler("resource", "FailedGetResourceMetric"), autoscaler("off", "ScalingDisabled"),
	}
	for i := range 30 {
		objects = append(objects, terminating(fmt.Sprintf("many-%02d", i), "many.test/v1: stale"))
	}
	client := fake.NewClientset(objects...)
	now := time.Now()
	a := newAffected(client)
	a.now, a.patience = func() time.Time { return now }, time.Minute
	defer running(t, a)()
	ask := func(all ...aggregationv1alpha1.RemoteAPIService) []*aggregationv1alpha1.Affected {
		a.addTo(t.Context(), all)
		var out []*aggregationv1alpha1.Affected
		for _, one := range all {
			out = append(out, one.Status.Affected)
		}
		return out
	}

	if got := ask(remoteAPIService("a.test", aggregationv1alpha1.Healthy), remoteAPIService("b.test", aggregationv1alpha1.Degraded), remoteAPIService("c.test", aggregationv1alpha1.Unknown)); !slices.Equal(got, make([]*aggregationv1alpha1.Affected, 3)) {
		t.Errorf("affected by what is up: %v", got)
	}
	if asked := len(client.Actions()); asked != 0 {
		t.Errorf("asked %d times though nothing is down", asked)
	}

	got := ask(remoteAPIService("a.test", aggregationv1alpha1.Unavailable), remoteAPIService("custom.metrics.k8s.io", aggregationv1alpha1.Unavailable),
		remoteAPIService("metrics.k8s.io", aggregationv1alpha1.Healthy), remoteAPIService("many.test", aggregationv1alpha1.Unavailable))
	if !slices.Equal(got[0].Namespaces, []string{"one"}) || got[0].AutoscalerCount != 0 || got[2] != nil {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(got[1].Namespaces, []string{"one", "two"}) || !slices.Equal(got[1].Autoscalers, []string{"ns/object", "ns/pods"}) || got[1].AutoscalerCount != 2 {
		t.Errorf("%+v", got[1])
	}
	if got[3].NamespaceCount != 30 || len(got[3].Namespaces) != affectedNames || got[3].Namespaces[0] != "many-00" {
		t.Errorf("%+v", got[3])
	}

	asked := len(client.Actions())
	now = now.Add(affectedAge - 1)
	ask(remoteAPIService("a.test", aggregationv1alpha1.Unavailable))
	if len(client.Actions()) != asked {
		t.Error("asked again at once")
	}
	client.PrependReactor("list", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("too busy")
	})
	now = now.Add(affectedAge)
	if got := ask(remoteAPIService("a.test", aggregationv1alpha1.Unavailable)); got[0] == nil || !slices.Equal(got[0].Namespaces, []string{"one"}) {
		t.Errorf("where nothing can be found out: %+v", got[0])
	}
	if len(client.Actions()) == asked {
		t.Error("not asked again")
	}
}

// running runs a until the returned func is called, which waits for its end.
func running(t *testing.T, a *affected) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { a.run(ctx) })
	return func() {
		cancel()
		run.Wait()
	}
}

func TestAffectedGivesUp(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("list", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, context.DeadlineExceeded
	})
	a := newAffected(client)
	a.patience = time.Minute
	defer running(t, a)()
	all := []aggregationv1alpha1.RemoteAPIService{remoteAPIService("metrics.k8s.io", aggregationv1alpha1.Unavailable)}
	a.addTo(t.Context(), all)
	if a := all[0].Status.Affected; a == nil || a.NamespaceCount != 0 || !slices.Equal(a.Controllers, heldUp) {
		t.Errorf("%+v", a)
	}
}

// That a document was found unchanged is told to nobody who watches, and all else is.
func TestWhatIsTheSameToWatchers(t *testing.T) {
	at := func(unix int64) metav1.Time { return metav1.Unix(unix, 0) }
	status := func() *aggregationv1alpha1.RemoteAPIServiceStatus {
		document := aggregationv1alpha1.Document{Freshness: aggregationv1alpha1.Current, Fetched: at(1), Bytes: 10}
		return &aggregationv1alpha1.RemoteAPIServiceStatus{
			State: aggregationv1alpha1.Healthy, Since: at(1),
			Discovery: aggregationv1alpha1.Discovery{Document: document}, OpenAPIV2: document, OpenAPIV3: document,
			Endpoints: []aggregationv1alpha1.Endpoint{{Address: "192.0.2.1:443", Requests: 1}},
		}
	}
	for what, c := range map[string]struct {
		change func(s *aggregationv1alpha1.RemoteAPIServiceStatus)
		same   bool
	}{
		"nothing":              {func(*aggregationv1alpha1.RemoteAPIServiceStatus) {}, true},
		"discovery is checked": {func(s *aggregationv1alpha1.RemoteAPIServiceStatus) { s.Discovery.Fetched = at(2) }, true},
		"OpenAPI is checked": {func(s *aggregationv1alpha1.RemoteAPIServiceStatus) {
			s.OpenAPIV2.Fetched, s.OpenAPIV3.Fetched = at(2), at(3)
		}, true},
		"it is another": {func(s *aggregationv1alpha1.RemoteAPIServiceStatus) {
			s.OpenAPIV3.Fetched, s.OpenAPIV3.Bytes = at(2), 11
		}, false},
		"it is stale": {func(s *aggregationv1alpha1.RemoteAPIServiceStatus) { s.Discovery.Freshness = aggregationv1alpha1.Stale }, false},
		"a state":     {func(s *aggregationv1alpha1.RemoteAPIServiceStatus) { s.State = aggregationv1alpha1.Degraded }, false},
		"a time":      {func(s *aggregationv1alpha1.RemoteAPIServiceStatus) { s.Since = at(2) }, false},
		"a number":    {func(s *aggregationv1alpha1.RemoteAPIServiceStatus) { s.Endpoints[0].Requests++ }, false},
	} {
		before, after := status(), status()
		c.change(after)
		if got := sameToWatchers(before, after); got != c.same {
			t.Errorf("%s: the same is %v", what, got)
		}
	}
}

// What else there is to tell does not wait for an API server that is slow; what it says in the
// end is told then.
func TestNewsDoNotWaitForWhoSuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(terminating("one", "a.test/v1: stale"))
		const slow = affectedTimeout - time.Second
		client.PrependReactor("list", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
			time.Sleep(slow)
			return false, nil, nil
		})
		a := newAffected(client)
		stop := running(t, a)
		ask := func() (took time.Duration, count int64) {
			all := []aggregationv1alpha1.RemoteAPIService{remoteAPIService("a.test", aggregationv1alpha1.Unavailable)}
			began := time.Now()
			a.addTo(t.Context(), all)
			return time.Since(began), all[0].Status.Affected.NamespaceCount
		}
		for i, want := range []time.Duration{affectedPatience, 0, 0} {
			if took, count := ask(); took != want || count != 0 {
				t.Errorf("%d: after %v %d namespaces, want none after %v", i, took, count, want)
			}
		}
		time.Sleep(slow)
		if took, count := ask(); took != 0 || count != 1 {
			t.Errorf("after %v %d namespaces", took, count)
		}
		time.Sleep(affectedAge) // and while that is asked again it is still told
		if took, count := ask(); took != affectedPatience || count != 1 {
			t.Errorf("when it is old: after %v %d namespaces", took, count)
		}
		stop()
	})
}
