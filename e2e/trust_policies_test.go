package e2e

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// review is what a webhook answers to a request at a path.
type review func(ctx context.Context, path string, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

// webhook serves until the test ends. What it gives says how a path of it is called.
func webhook(t *testing.T, answer review) func(path string) admissionregistrationv1.WebhookClientConfig {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.Request == nil {
			http.Error(w, "no review", http.StatusBadRequest)
			return
		}
		asked.Response = answer(r.Context(), r.URL.Path, asked.Request)
		asked.Response.UID = asked.Request.UID
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(admissionv1.AdmissionReview{TypeMeta: asked.TypeMeta, Response: asked.Response}) // the caller may be gone
	}))
	t.Cleanup(s.Close)
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return func(path string) admissionregistrationv1.WebhookClientConfig {
		return admissionregistrationv1.WebhookClientConfig{URL: new(s.URL + path), CABundle: bundle}
	}
}

// created are the rules of a webhook that is called for new notes.
func (n *notes) created() []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{n.group}, APIVersions: []string{"v1"}, Resources: []string{"notes"}},
	}}
}

// mutatingWebhook registers one at the host.
func (n *notes) mutatingWebhook(t *testing.T, client admissionregistrationv1.WebhookClientConfig) {
	t.Helper()
	registered := n.kube.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := registered.Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: n.name},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "mutates." + n.group, ClientConfig: client, Rules: n.created(), AdmissionReviewVersions: []string{"v1"},
			SideEffects: new(admissionregistrationv1.SideEffectClassNone), TimeoutSeconds: new(int32(30)),
		}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := registered.Delete(context.Background(), n.name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// validatingWebhook registers one at the host.
func (n *notes) validatingWebhook(t *testing.T, client admissionregistrationv1.WebhookClientConfig) {
	t.Helper()
	registered := n.kube.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if _, err := registered.Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: n.name},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "validates." + n.group, ClientConfig: client, Rules: n.created(), AdmissionReviewVersions: []string{"v1"},
			SideEffects: new(admissionregistrationv1.SideEffectClassNone), TimeoutSeconds: new(int32(30)),
		}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := registered.Delete(context.Background(), n.name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// TestExtensionCallsWebhooksOfTheHost: an extension server calls them itself, as the host does
// for its own kinds: first what mutates, then what validates, with the caller's name.
func TestExtensionCallsWebhooksOfTheHost(t *testing.T) {
	n := newNotes(t, shared(t).cluster, "hooked", nil)
	n.serve(t)
	n.available(t)
	const written, changed, refused = "as it was written", "as a webhook changed it", "no such notes here"
	no := func(message string) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: message, Code: http.StatusForbidden}}
	}
	at := webhook(t, func(_ context.Context, path string, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		var note struct{ Text string }
		if err := json.Unmarshal(r.Object.Raw, &note); err != nil {
			return no(err.Error())
		}
		switch {
		case r.UserInfo.Username != "ada":
			return no("the caller is " + r.UserInfo.Username)
		case path == "/mutate" && note.Text == written:
			return &admissionv1.AdmissionResponse{
				Allowed: true, Warnings: []string{"it was changed"},
				PatchType: new(admissionv1.PatchTypeJSONPatch), Patch: []byte(`[{"op":"replace","path":"/text","value":"` + changed + `"}]`),
			}
		case path == "/validate" && note.Text == written:
			return no("it was not changed before")
		case path == "/validate" && note.Text != changed:
			return no(refused)
		}
		return &admissionv1.AdmissionResponse{Allowed: true}
	})
	n.validatingWebhook(t, at("/validate"))
	ada := n.user(t, "ada", "system:masters")
	tries := 0
	eventually(t, "the webhook does not refuse", func(ctx context.Context) error {
		tries++
		a, err := n.writeBy(ctx, ada, "default", fmt.Sprintf("refused-%d", tries), "other")
		if err == nil && (a.code != http.StatusForbidden || !strings.Contains(a.body, refused)) {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		return err
	})
	if a, err := n.writeBy(t.Context(), ada, "default", "unchanged", written); err != nil || a.code != http.StatusForbidden || !strings.Contains(a.body, "not changed before") {
		t.Errorf("before anything mutates, a write gives %d %s %v", a.code, a.body, err)
	}
	n.mutatingWebhook(t, at("/mutate"))
	eventually(t, "the webhook does not change what is written", func(ctx context.Context) error {
		tries++
		a, err := n.writeBy(ctx, ada, "default", fmt.Sprintf("changed-%d", tries), written)
		if err == nil && (a.code != http.StatusCreated || !strings.Contains(a.body, changed) || !strings.Contains(a.header.Get("Warning"), "it was changed")) {
			err = fmt.Errorf("%d %s, with the warning %q", a.code, a.body, a.header.Get("Warning"))
		}
		return err
	})
	if a, err := n.write(t.Context(), "default", "of-another", written); err != nil || a.code != http.StatusForbidden || !strings.Contains(a.body, "the caller is") {
		t.Errorf("the write of another gives %d %s %v", a.code, a.body, err)
	}
}

// TestExtensionIsBoundedByPrioritiesOfTheHost: what a FlowSchema of the host puts at a priority
// level has that level's seats at the extension server too, and takes none of others.
func TestExtensionIsBoundedByPrioritiesOfTheHost(t *testing.T) {
	n := newNotes(t, shared(t).cluster, "bounded", nil)
	n.serve(t)
	n.available(t)
	const requests = 30
	release, held := make(chan struct{}), make(chan struct{}, requests)
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	at := webhook(t, func(ctx context.Context, _ string, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if r.UserInfo.Username == "grace" {
			held <- struct{}{}
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return &admissionv1.AdmissionResponse{Allowed: true}
	})
	grace, ada := n.direct(t, "grace"), n.direct(t, "ada")
	schema := n.oneShare(t, "grace")
	n.mutatingWebhook(t, at("/"))
	eventually(t, "the host's FlowSchema is not known", func(ctx context.Context) error {
		a, err := do(ctx, grace, http.MethodGet, "/apis/"+n.group+"/v1/namespaces/default/notes", "")
		if err == nil && (a.code != http.StatusOK || a.header.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID) != schema) {
			err = fmt.Errorf("%d %s, by the FlowSchema %q", a.code, a.body, a.header.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID))
		}
		return err
	})
	// Once the webhook holds a write, it holds those that follow.
	sent, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answers := make(chan error, requests+1)
	var writes sync.WaitGroup
	defer writes.Wait()
	defer free()
	write := func(name string) {
		writes.Go(func() {
			a, err := n.writeBy(sent, grace, "default", name, "x")
			switch {
			case err == nil && a.code == http.StatusTooManyRequests && a.header.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID) == schema:
				err = errTooMany
			case err == nil && a.code != http.StatusCreated:
				err = fmt.Errorf("%d %s", a.code, a.body)
			}
			answers <- err
		})
	}
	tries := 0
	eventually(t, "the webhook does not hold a write", func(context.Context) error {
		tries++
		write(fmt.Sprintf("first-%d", tries))
		select {
		case <-held:
			return nil
		case err := <-answers: // the webhook is not known yet
			if err != nil {
				t.Fatal(err)
			}
			return errors.New("it was written")
		case <-sent.Done():
			return sent.Err()
		}
	})
	for i := range requests {
		write(fmt.Sprintf("grace-%d", i))
	}
	// One of 30 is refused while the others are held: they hold all seats.
	const most = 5 // seats that one share of more than 200 gives of 600, and one more
	for range requests - most {
		select {
		case err := <-answers:
			if !errors.Is(err, errTooMany) {
				t.Fatalf("beyond the seats a write gives %v, want 429", err)
			}
		case <-sent.Done():
			t.Fatal("more writes are under way than there are seats")
		}
	}
	if a, err := n.writeBy(sent, ada, "default", "of-another", "x"); err != nil || a.code != http.StatusCreated {
		t.Errorf("meanwhile a write of another gives %d %s %v", a.code, a.body, err)
	}
	free()
	writes.Wait()
	close(answers)
	done := 0
	for err := range answers {
		if err == nil {
			done++
		} else if !errors.Is(err, errTooMany) {
			t.Error(err)
		}
	}
	if done == 0 {
		t.Error("no write was let through")
	}
}

var errTooMany = errors.New("429 by the FlowSchema")

// direct leads a user, who may do anything but is in no group that is exempt, to the server
// past the host, which would refuse by the same FlowSchema.
func (n *notes) direct(t *testing.T, user string) *rest.Config {
	t.Helper()
	if err := create(t.Context(), n.kube.RbacV1().ClusterRoleBindings().Create, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: n.name + "-" + user, Labels: map[string]string{"of": n.name}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}); err != nil {
		t.Fatal(err)
	}
	config := n.user(t, user)
	config.Host = "https://127.0.0.1:" + strconv.Itoa(n.ports[0])
	config.CAData, config.Insecure = nil, true // the test is about what comes after the handshake
	eventually(t, user+" may not list", func(ctx context.Context) error {
		a, err := do(ctx, config, http.MethodGet, "/apis/"+n.group+"/v1/namespaces/default/notes", "")
		if err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		return err
	})
	return config
}

// oneShare gives what a user does with notes a priority level with one share, and no queue. It
// returns the UID of the FlowSchema.
func (n *notes) oneShare(t *testing.T, user string) string {
	t.Helper()
	flow := n.kube.FlowcontrolV1()
	none := new(int32(0))
	if err := create(t.Context(), flow.PriorityLevelConfigurations().Create, &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: n.name},
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: new(int32(1)), LendablePercent: none, BorrowingLimitPercent: none,
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
			},
		},
	}); err != nil {
		t.Fatal(err)
	}
	schema, err := flow.FlowSchemas().Create(t.Context(), &flowcontrolv1.FlowSchema{
		ObjectMeta: metav1.ObjectMeta{Name: n.name},
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: n.name}, MatchingPrecedence: 100,
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
				Subjects: []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: user}}},
				ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
					Verbs: []string{"create", "list"}, APIGroups: []string{n.group}, Resources: []string{"notes"}, Namespaces: []string{flowcontrolv1.NamespaceEvery},
				}},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(
			flow.FlowSchemas().Delete(context.Background(), n.name, metav1.DeleteOptions{}),
			flow.PriorityLevelConfigurations().Delete(context.Background(), n.name, metav1.DeleteOptions{}),
		); err != nil {
			t.Error(err)
		}
	})
	return string(schema.UID)
}
