package proxy

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/transport"

	"github.com/annex-api/annex/aggregator/internal/backend"
)

func TestIdentityIsThatOfClientGo(t *testing.T) {
	for name, u := range map[string]user.DefaultInfo{
		"all":       {Name: "jane", UID: "7", Groups: []string{"a", "b"}, Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"X=1", "Y"}}},
		"no groups": {Name: "jane"},
		"anonymous": {Groups: []string{"system:unauthenticated"}},
		"odd keys":  {Name: "ü", Extra: map[string][]string{"UPPER": {"1"}, "a b%": {"2"}, "ключ": {"3"}, "empty": {}, "": {"4"}}},
		"same name": {Name: "x", Extra: map[string][]string{"k": {"1"}, "other": {"2"}}},
	} {
		t.Run(name, func(t *testing.T) {
			want := &http.Request{Header: http.Header{}}
			transport.SetAuthProxyHeaders(want, u.Name, u.UID, u.Groups, u.Extra)
			i := identity{sendUID: true}
			for range 2 { // from memory the second time
				got := http.Header{}
				i.set(got, &u)
				if diff := cmp.Diff(want.Header, backend.Canonical(got)); diff != "" {
					t.Errorf("headers (-client-go +ours):\n%s", diff)
				}
			}
		})
	}
}

func TestUIDIsSentOnlyWhenAsked(t *testing.T) {
	got := http.Header{}
	new(identity).set(got, &user.DefaultInfo{Name: "jane", UID: "7"})
	if _, sent := backend.Canonical(got)["X-Remote-Uid"]; sent {
		t.Error("the UID was sent")
	}
}

func TestGroupsOfAUserAreNotChanged(t *testing.T) {
	groups := append(make([]string, 0, 8), "a")
	got := http.Header{}
	new(identity).set(got, &user.DefaultInfo{Groups: groups})
	got[remoteGroup] = append(got[remoteGroup], "b")
	if spare := groups[:2]; spare[1] != "" {
		t.Errorf("the user's groups became %q", spare)
	}
}

func TestKeptNamesAreBounded(t *testing.T) {
	i := identity{}
	for n := range maxExtraNames + 50 {
		key := fmt.Sprintf("key-%d", n)
		got := http.Header{}
		i.set(got, &user.DefaultInfo{Extra: map[string][]string{key: {"v"}}})
		if len(got) != 2 {
			t.Fatalf("headers %v", got)
		}
	}
	if n := i.count.Load(); n != maxExtraNames {
		t.Errorf("%d names are kept, want %d", n, maxExtraNames)
	}
}
