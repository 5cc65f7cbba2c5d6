package outgoing

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/transport"

	"github.com/annex-api/annex/aggregator/internal/backend"
)

// Readers of these headers find what client-go would have told them.
func TestIdentityIsThatOfClientGo(t *testing.T) {
	for name, u := range map[string]user.DefaultInfo{
		"all":       {Name: "jane", UID: "7", Groups: []string{"a", "b"}, Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"X=1", "Y"}}},
		"no groups": {Name: "jane"},
		"anonymous": {Groups: []string{"system:unauthenticated"}},
		"odd keys":  {Name: "ü", Extra: map[string][]string{"a b%": {"2"}, "ключ": {"3"}, "empty": {}, "": {"4"}, "!#$&'*+-.^`|~09": {"5"}}},
		"same name": {Name: "x", Extra: map[string][]string{"k": {"1"}, "other": {"2"}}},
	} {
		t.Run(name, func(t *testing.T) {
			want := &http.Request{Header: http.Header{}}
			transport.SetAuthProxyHeaders(want, u.Name, u.UID, u.Groups, u.Extra)
			i := identity{sendUID: true}
			for range 2 { // from memory the second time
				got := http.Header{}
				i.set(got, &u)
				if diff := cmp.Diff(lower(want.Header), lower(got)); diff != "" {
					t.Errorf("headers (-client-go +ours):\n%s", diff)
				}
			}
		})
	}
}

// lower spells names as HTTP/2 sends them.
func lower(h http.Header) http.Header {
	spelled := http.Header{}
	for name, values := range h {
		spelled[strings.ToLower(name)] = values
	}
	return spelled
}

// Capitals of keys would arrive in lower case, and two keys as one.
func TestKeysOfExtraKeepTheirCapitals(t *testing.T) {
	got := http.Header{}
	new(identity).set(got, &user.DefaultInfo{Name: "x", Extra: map[string][]string{"accessKeyId": {"1"}, "accesskeyid": {"2"}, "accesskey%49d": {"3"}, "access_key": {"4"}, "access-key": {"5"}}})
	want := http.Header{
		"x-remote-user":                  {"x"},
		"x-remote-extra-access%4bey%49d": {"1"},
		"x-remote-extra-accesskeyid":     {"2"},
		"x-remote-extra-accesskey%2549d": {"3"},
		"x-remote-extra-access%5fkey":    {"4"},
		"x-remote-extra-access-key":      {"5"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNotCarried(t *testing.T) {
	extra := func(key string, values ...string) *user.DefaultInfo {
		return &user.DefaultInfo{Name: "jane", Extra: map[string][]string{key: values}}
	}
	long := strings.Repeat("x", 3*maxQuoted)
	for what, c := range map[string]struct {
		user *user.DefaultInfo
		want string
	}{
		"all":              {&user.DefaultInfo{Name: "alice", UID: "u1", Groups: []string{"dev", "ops"}, Extra: map[string][]string{"a/b": {"x", "y"}}}, ""},
		"other scripts":    {&user.DefaultInfo{Name: "Jürgen 世", UID: "ü", Groups: []string{"a, b", "CN=admins,OU=x y"}}, ""},
		"odd keys":         {extra("a b\r\nÄ%", "", "x"), ""},
		"no name":          {&user.DefaultInfo{Groups: []string{"a"}}, "user name is empty"},
		"a name":           {&user.DefaultInfo{Name: "jane "}, `user name "jane " begins or ends with a blank`},
		"a UID":            {&user.DefaultInfo{Name: "jane", UID: "\t7"}, `UID "\t7" has control characters`},
		"an empty group":   {&user.DefaultInfo{Name: "jane", Groups: []string{"a", ""}}, "group is empty"},
		"a group":          {&user.DefaultInfo{Name: "jane", Groups: []string{"a", " system:masters"}}, `group " system:masters" begins or ends with a blank`},
		"a broken group":   {&user.DefaultInfo{Name: "jane", Groups: []string{"system:\nmasters"}}, `group "system:\nmasters" has control characters`},
		"Unicode's blank":  {&user.DefaultInfo{Name: "jane", Groups: []string{"system:masters\u00a0"}}, `group "system:masters\u00a0" begins or ends with a blank`},
		"Unicode's break":  {&user.DefaultInfo{Name: "jane\u0085x"}, `user name "jane\u0085x" has control characters`},
		"a byte":           {&user.DefaultInfo{Name: "jane\xa0"}, `user name "jane\xa0" is not UTF-8`},
		"a value of extra": {extra("k", "fine", "x\x7f"), `extra value "x\x7f" has control characters`},
		"a key of extra":   {extra("k\xff", "fine"), `extra key "k\xff" is not UTF-8`},
		"a key, not sent":  {extra("k\xff"), ""},
		"a long name":      {&user.DefaultInfo{Name: "\n" + long}, `user name "\n` + long[:maxQuoted-1] + `"... has control characters`},
	} {
		got := (&identity{sendUID: true}).check(c.user)
		if got == nil && c.want == "" {
			continue
		}
		if got == nil || got.String() != c.want {
			t.Errorf("%s: %v, want %q", what, got, c.want)
		}
	}
	if got := new(identity).check(&user.DefaultInfo{Name: "jane", UID: "\n"}); got != nil {
		t.Errorf("a UID that is not sent: %v", got)
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
