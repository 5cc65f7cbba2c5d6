package kubeapiserver_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// One user's requests, however many and however long, leave another user, the
// controller manager and an admin what they need of an extension server. Who is of
// which priority is what priority and fairness says.
func TestOneUserLocksNobodyOutOfAnExtensionAPI(t *testing.T) {
	const (
		manager = "system:kube-controller-manager"
		flood   = 400
	)
	for name, method := range map[string]string{"requests": http.MethodGet, "bodies": http.MethodPost} {
		t.Run("endless "+name, func(t *testing.T) {
			v1 := gv("flood-"+name+".test", "v1")
			e := server.Register(t, "flood-"+name, v1)
			server.UpdateRegistration(t, v1.Version+"."+v1.Group, func(a *apiregistrationv1.APIService) {
				a.Annotations = map[string]string{"aggregation.annex.dev/max-in-flight": "3"}
			})
			for _, user := range []string{"alice", "bob", manager} {
				server.Allow(t, user, v1.Group)
			}
			held := make(chan struct{})
			e.Handle("*", func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					return
				}
				if strings.HasSuffix(r.URL.Path, "/held") {
					select {
					case <-held:
					case <-r.Context().Done():
					}
				}
				_, _ = io.WriteString(w, "{}")
			})
			things := "/apis/" + v1.String() + "/namespaces/default/things"
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			hold := func(token string) {
				client := server.Client(token)
				t.Cleanup(client.CloseIdleConnections)
				client.Timeout = 0
				for range flood {
					var body io.Reader
					if method == http.MethodPost {
						reader, writer := io.Pipe()
						body = io.MultiReader(strings.NewReader("{"), reader)
						t.Cleanup(func() { _ = writer.Close() })
					}
					r, err := http.NewRequestWithContext(ctx, method, server.URL+things+"/held", body)
					if err != nil {
						t.Fatal(err)
					}
					go func() {
						if response, err := client.Do(r); err == nil {
							_ = response.Body.Close()
						}
					}()
				}
			}
			expect := func(what, token string, header ...string) {
				t.Helper()
				test.Eventually(t, func() string { // the annotation has to be known first
					answer, err := server.TryGet(ctx, token, things+"/other", header...)
					if err != nil {
						return err.Error()
					}
					if answer.Code != http.StatusOK {
						return what + " gets " + http.StatusText(answer.Code)
					}
					return ""
				})
			}
			arrives := func(user string) {
				t.Helper()
				test.Eventually(t, func() string {
					for _, r := range e.Requests(things + "/held") {
						if r.Header.Get("X-Remote-User") == user {
							return ""
						}
					}
					return "nothing of the flood by " + user + " arrives"
				})
			}
			hold(test.Alice)
			arrives("alice")
			expect("another user", test.Bob)
			expect("the controller manager", test.Admin, "Impersonate-User", manager)
			expect("an admin", test.Admin)

			hold(test.Bob) // now two users have all that is not reserved
			arrives("bob")
			for range 10 {
				expect("the controller manager", test.Admin, "Impersonate-User", manager)
				expect("an admin", test.Admin)
			}
			if n := len(e.Requests(things + "/held")); method == http.MethodGet && n > 5 { // those that raced with the annotation included
				t.Errorf("%d requests of the flood arrived", n)
			}
			close(held)
		})
	}
}

// A body that stops holds its request no longer than the request may take: the client is
// told, and nothing of it is left at the extension server, though the connection stays.
func TestStalledBodiesLeaveNothingAtAnExtensionAPI(t *testing.T) {
	const requests = 20
	v1 := gv("stalled.test", "v1")
	e := server.Register(t, "stalled", v1)
	var open atomic.Int32
	e.Handle("*", func(_ http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Add(-1)
		_, _ = io.Copy(io.Discard, r.Body)
	})
	server.Get(t, test.Admin, "/apis/"+v1.String()+"/others") // a server's first requests may be cut off in place of an answer
	clients := make([]*test.Raw, requests)
	for i := range clients {
		clients[i] = server.Dial(t, "http/1.1")
		clients[i].Send(t, "POST /apis/"+v1.String()+"/namespaces/default/things?timeout=2s HTTP/1.1",
			"Authorization: Bearer "+test.Admin, "Content-Type: application/json", "Content-Length: 100000") // not one of those who flood
		if _, err := io.WriteString(clients[i], "0123456789"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clients {
		if got := c.Receive(t); got.Code != http.StatusGatewayTimeout {
			t.Errorf("%d %s", got.Code, got.Body)
		}
	}
	test.Eventually(t, func() string {
		if n := open.Load(); n > 0 {
			return fmt.Sprintf("%d requests are left at the extension server", n)
		}
		return ""
	})
	if n := len(e.Requests("/apis/" + v1.String() + "/namespaces/")); n != requests {
		t.Errorf("%d of %d requests arrived", n, requests)
	}
}

// A body that stops holds no refusal back either, whoever refuses.
func TestStalledBodiesHoldNoRefusalBack(t *testing.T) {
	v1 := gv("refused.test", "v1")
	server.Register(t, "refused", v1)
	for name, c := range map[string]struct {
		token string
		code  int
	}{
		"who is nobody":       {"wrong", http.StatusUnauthorized},
		"who may not":         {test.Bob, http.StatusForbidden},
		"what does not exist": {test.Admin, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			if c.code == http.StatusServiceUnavailable {
				server.UpdateRegistration(t, v1.Version+"."+v1.Group, func(a *apiregistrationv1.APIService) {
					a.Spec.Service.Name = "nothing"
				})
				server.AwaitCondition(t, v1, apiregistrationv1.ConditionFalse, "ServiceNotFound", `service/nothing in "default" is not present`)
			}
			client := server.Dial(t, "http/1.1")
			client.Send(t, "POST /apis/"+v1.String()+"/namespaces/default/things?timeout=2s HTTP/1.1",
				"Authorization: Bearer "+c.token, "Content-Type: application/json", "Content-Length: 100000")
			if _, err := io.WriteString(client, "0123456789"); err != nil {
				t.Fatal(err)
			}
			if got := client.Receive(t); got.Code != c.code {
				t.Errorf("%d %s", got.Code, got.Body)
			}
		})
	}
}

// A connection whose request took too long serves the next one, if the body was whole.
func TestAConnectionOutlastsARequestThatTookTooLong(t *testing.T) {
	v1 := gv("outlasted.test", "v1")
	e := server.Register(t, "outlasted", v1)
	e.Handle("*", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, "{}")
	})
	things := "/apis/" + v1.String() + "/namespaces/default/things"
	server.Get(t, test.Admin, things) // a server's first requests may be cut off in place of an answer
	client := server.Dial(t, "http/1.1")
	for range 3 {
		client.Send(t, "POST "+things+"?timeout=1s HTTP/1.1", "Authorization: Bearer "+test.Admin, "Content-Type: application/json", "Content-Length: 2")
		if _, err := io.WriteString(client, "{}"); err != nil {
			t.Fatal(err)
		}
		got := client.Receive(t)
		if got.Code != http.StatusGatewayTimeout {
			t.Fatalf("%d %s", got.Code, got.Body)
		}
		if got.Header.Get("Connection") == "close" {
			t.Fatal("the connection is closed")
		}
		client.Send(t, "GET "+things+" HTTP/1.1", "Authorization: Bearer "+test.Admin)
		if got := client.Receive(t); got.Code != http.StatusOK {
			t.Errorf("the next request gets %d %s", got.Code, got.Body)
		}
	}
}
