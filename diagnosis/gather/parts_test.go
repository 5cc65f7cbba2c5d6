package gather

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/testcerts"
)

const reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

func TestRightsAreAskedFor(t *testing.T) {
	f := newFake(t)
	f.handle(reviews, func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, http.StatusCreated, authorizationv1.SubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{Allowed: true}})
	})
	subject := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "shop", Name: "keeper"}}
	role := rbacv1.RoleRef{Kind: "Role", Name: readerRole}
	f.lists("/apis/rbac.authorization.k8s.io/v1/rolebindings",
		rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "wrong-place"}, RoleRef: role, Subjects: subject},
		rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "of-others"}, RoleRef: role})
	g := &gathering{cluster: f.cluster(t)}
	rights, readers := g.rights(t.Context(), "shop", "keeper")
	if len(rights) != len(diagnosis.Rights()) || !rights[diagnosis.ReviewAccess].Value {
		t.Errorf("rights %v", rights)
	}
	if got := readers.Value; len(got) != 1 || got[0] != "shop/wrong-place" {
		t.Errorf("bindings %v", readers)
	}
}

func TestRightsAreReadWhereTheyMayNotBeAskedFor(t *testing.T) {
	f := newFake(t)
	f.handle(reviews, forbid)
	subject := []rbacv1.Subject{{Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:shop"}}
	f.lists("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
		rbacv1.ClusterRoleBinding{RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "delegator"}, Subjects: subject})
	f.lists("/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings")
	f.has("/apis/rbac.authorization.k8s.io/v1/clusterroles/delegator", rbacv1.ClusterRole{Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"create"}, APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"subjectaccessreviews"}},
	}})
	g := &gathering{cluster: f.cluster(t)}
	rights, _ := g.rights(t.Context(), "shop", "keeper")
	if got := rights[diagnosis.ReviewAccess]; !got.Seen || !got.Value {
		t.Errorf("what RBAC gives: %v", got)
	}
	if got := rights[diagnosis.ReviewTokens]; got.Seen || !errors.Is(got.Why(), diagnosis.ErrForbidden) {
		t.Errorf("another authorizer may give the rest: %v", got)
	}
}

func TestDanglingReferences(t *testing.T) {
	got, err := dangling([]byte(`{"paths":{"/apis/b.example.com/v1/x":{"get":{"schema":{"$ref":"#/definitions/B"}}},"/api/v1/y":{}},
		"definitions":{
			"A":{"x-kubernetes-group-version-kind":[{"group":"a.example.com"}],"p":{"$ref":"#/definitions/Gone"},"q":{"$ref":"#/definitions/Gone"}},
			"B":{"p":{"$ref": "#/definitions/C~1D"},"q":{"$ref":"#/definitions/A"}}}}`))
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if a := got[0]; a.From != "A" || a.To != "Gone" || len(a.Groups) != 1 || a.Groups[0] != "a.example.com" {
		t.Errorf("got %+v", a)
	}
	if b := got[1]; b.From != "B" || b.To != "C/D" || len(b.Groups) != 1 || b.Groups[0] != "b.example.com" {
		t.Errorf("got %+v", b)
	}
}

func TestMetrics(t *testing.T) {
	m, err := parseMetrics(strings.NewReader(`# HELP aggregator_unavailable_apiservice x
aggregator_unavailable_apiservice{name="v1.a"} 1
aggregator_unavailable_apiservice{name="v1.b"} 0
aggregator_unavailable_apiservice_total{name="v1.a",reason="MissingEndpoints"} 3
apiserver_request_total{code="200"} 17
process_start_time_seconds 1.7e+09
`))
	if err != nil || m.unavailable["v1.a"] != 1 || m.outages["v1.a"]["MissingEndpoints"] != 3 || m.started.Unix() != 1_700_000_000 {
		t.Errorf("got %+v, %v", m, err)
	}
	g := &gathering{metrics: diagnosis.Saw(m), facts: diagnosis.Facts{Now: m.started.Add(time.Hour)}}
	if o := g.outages("v1.a").Value; o.Over != time.Hour || o.ByReason["MissingEndpoints"] != 3 {
		t.Errorf("outages %+v", o)
	}
	// This machine's clock is a day ahead, and then a day behind.
	for _, ahead := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		off := &gathering{metrics: diagnosis.Saw(m), facts: diagnosis.Facts{Now: m.started.Add(time.Hour + ahead)}}
		off.facts.Cluster.ClockSkew = diagnosis.Saw(-ahead)
		if o := off.outages("v1.a").Value; o.Over != time.Hour {
			t.Errorf("by a clock that is %v ahead, outages over %v", ahead, o.Over)
		}
	}
	if v := g.views("v1.a", nil).Value; len(v) != 1 || v[0].Available != metav1.ConditionFalse {
		t.Errorf("views %+v", v)
	}
	if v := g.views("v1.none", nil); v.Seen {
		t.Errorf("of one that has no metric: %+v", v)
	}
}

func TestRequestHeader(t *testing.T) {
	ca := testcerts.New("front-proxy-ca")
	r := readRequestHeader(&corev1.ConfigMap{Data: map[string]string{
		"requestheader-client-ca-file": string(ca.PEM), "requestheader-allowed-names": `["front-proxy-client"]`, "client-ca-file": "no PEM",
	}})
	if !r.HasRequestHeaderClientCA || len(r.RequestHeaderClientCA) != 1 || len(r.AllowedNames) != 1 || !strings.Contains(r.Problem, "client-ca-file: there is text that is no PEM") {
		t.Errorf("got %+v", r)
	}
}

func TestAPIServerPod(t *testing.T) {
	p := apiServerPod(corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Command: []string{"kube-apiserver", "--enable-aggregator-routing", "--service-cluster-ip-range=10.96.0.0/12"},
		Env:     []corev1.EnvVar{{Name: "https_proxy", Value: "http://me:secret@proxy:3128"}},
	}}}})
	if p.Flags["enable-aggregator-routing"] != "true" || p.Flags["service-cluster-ip-range"] != "10.96.0.0/12" || p.Proxy["HTTPS_PROXY"] != "http://proxy:3128" {
		t.Errorf("got %+v", p)
	}
}

func TestManifests(t *testing.T) {
	var m Manifests
	err := m.Read(strings.NewReader(`
apiVersion: v1
kind: List
items:
- {apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: v1.things.example.com}, spec: {group: things.example.com, version: v1, service: {namespace: shop, name: things}}}
- {apiVersion: v1, kind: Service, metadata: {name: things, namespace: shop}, spec: {selector: {app: things}, ports: [{port: 443}]}}
---
# nothing
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: things}, spec: {replicas: 2, template: {metadata: {labels: {app: things}}}}}
---
{apiVersion: example.com/v1, kind: Unknown, metadata: {name: x}}
`))
	if err != nil || len(m.APIServices) != 1 {
		t.Fatalf("%v, %+v", err, m)
	}
	got := Offline(&m, time.Now(), errors.New("no cluster")).APIServices["v1.things.example.com"]
	if !got.File || got.Service.Value == nil || len(got.Workloads.Value) != 1 || got.Workloads.Value[0].Desired != 2 {
		t.Errorf("got %+v", got)
	}
	for text, want := range map[string]string{
		"words alone": "no object of Kubernetes", "kind: {a: b}": "no object of Kubernetes",
		"kind: [": "document 1", "a: b\n---\nkind: {": "document 2", strings.Repeat("a", maxManifests+1): "larger than",
		"{apiVersion: apiregistration.k8s.io/v1, kind: APIService, spec: 7}": "APIService",
	} {
		if err := new(Manifests).Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}
