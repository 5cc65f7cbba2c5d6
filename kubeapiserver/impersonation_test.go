package kubeapiserver

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
)

func TestWhoCanBeAskedFor(t *testing.T) {
	jane := &user.DefaultInfo{Name: "Jané", UID: "1", Groups: []string{"a b", "system:authenticated"}, Extra: map[string][]string{"example.com/scope": {"x", "y"}}}
	got, err := inTheNameOf(jane)
	want := rest.ImpersonationConfig{UserName: "Jané", UID: "1", Groups: jane.Groups, Extra: jane.Extra}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	// A header has no room for these: they would arrive as others, or not at all.
	for what, u := range map[string]*user.DefaultInfo{
		"nobody":              {},
		"a space behind":      {Name: "alice "},
		"a tab before":        {Name: "\talice"},
		"two lines":           {Name: "alice\r\nImpersonate-Group: system:masters"},
		"a group with spaces": {Name: "alice", Groups: []string{" system:masters"}},
		"an empty group":      {Name: "alice", Groups: []string{""}},
		"an UID with a line":  {Name: "alice", UID: "1\n"},
		"a key in capitals":   {Name: "alice", Extra: map[string][]string{"Scope": {"x"}}},
		"a key of nothing":    {Name: "alice", Extra: map[string][]string{"": {"x"}}},
		"a key without value": {Name: "alice", Extra: map[string][]string{"scope": {}}},
		"an empty value":      {Name: "alice", Extra: map[string][]string{"scope": {"x", ""}}},
	} {
		if got, err := inTheNameOf(u); err == nil {
			t.Errorf("%s is asked for as %+v", what, got)
		}
	}
}
