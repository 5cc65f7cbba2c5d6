package diagnosis

import (
	"slices"
	"strings"
	"testing"
)

// Whoever copies a remedy whole changes what can be changed back, and destroys nothing.
func TestWhatDestroysIsNotRunByWhoCopiesAll(t *testing.T) {
	destroys := 0
	for _, f := range Faults() {
		for _, remedy := range [][]Action{f.Explain(), render(f.Code, Fields{})} {
			lines := Script(remedy)
			for i, a := range remedy {
				if (a.Warning() != "") != (a.Does == Destroys) {
					t.Errorf("%s: %s: the warning is %q", f.Code, a.Command, a.Warning())
				}
				if a.Does != Destroys {
					continue
				}
				destroys++
				if slices.Contains(lines, a.Command) || !slices.Contains(lines, "# "+a.Warning()) || !slices.Contains(lines, "# "+a.Command) {
					t.Errorf("%s: %s is not apart in\n%s", f.Code, a.Command, strings.Join(lines, "\n"))
				}
				if i == 0 || remedy[0].Does != Looks || a.Loses == "" || a.OnlyIf == "" {
					t.Errorf("%s: %s has no look before it, or does not say what is lost and when that is right: %+v", f.Code, a.Command, a)
				}
			}
		}
	}
	if destroys < 10 {
		t.Errorf("only %d were looked at", destroys)
	}
}

func TestActionsAreLeftOutWithTheirCommands(t *testing.T) {
	known := render(ServiceNotFound, Fields{APIService: "v1.a.example.com", Namespace: "shop", Group: "a.example.com", Version: "v1", Other: "widgets-api"})
	if len(known) != 3 || known[1].Remark != "if widgets-api is the Service that is meant" || known[1].Does != Changes {
		t.Errorf("got %+v", known)
	}
	unknown := render(ServiceNotFound, Fields{APIService: "v1.a.example.com", Namespace: "shop", Group: "a.example.com", Version: "v1"})
	want := []Action{
		{Does: Looks, Remark: "what Services there are", Command: "kubectl -n shop get services"},
		{
			Does: Destroys, Command: "kubectl delete apiservice v1.a.example.com",
			Loses:  "the API a.example.com/v1, for every client, until it is registered again",
			OnlyIf: "no Service above is the extension server's, and it is gone for good",
		},
	}
	if !slices.Equal(unknown, want) {
		t.Errorf("got %+v\nwant %+v", unknown, want)
	}
}
