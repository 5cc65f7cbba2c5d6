package diagnosis

import (
	"strings"
	"testing"
)

// TestSilenceOutsideOfTheCluster: where nobody asked the server itself, who reads is told how to.
func TestSilenceOutsideOfTheCluster(t *testing.T) {
	s := healthy()
	s.timesOut(false)
	s.outside()
	s.a.Service.Value.Spec.Selector = nil
	r := Diagnose(s.Facts, s.name)
	if got := outline(r); !strings.Contains(got, "10.1.0.1:8443 from here, which --direct asks: not asked") || strings.Contains(got, "port-forward") {
		t.Errorf("found\n%s", got)
	}
}

// TestRemediesForServersOutsideOfTheCluster: what names a Pod, or what makes Pods, leads nowhere there.
func TestRemediesForServersOutsideOfTheCluster(t *testing.T) {
	const ask = "curl -sk 'https://[2001:db8::7]:8443/apis/GROUP/VERSION'"
	said := 0
	for _, f := range Faults() {
		lines := Script(render(f.Code, Fields{Outside: "[2001:db8::7]:8443"}))
		text := strings.Join(lines, "\n")
		for _, word := range []string{"POD", "NODE", "DEPLOYMENT", "-n NAMESPACE get pods", "-n NAMESPACE port-forward", "127.0.0.1:8443"} {
			if strings.Contains(strings.ReplaceAll(text, "daemonset", ""), word) {
				t.Errorf("%s: %q is in\n%s", f.Code, word, text)
			}
		}
		if len(lines) == 0 {
			t.Errorf("%s has no remedy", f.Code)
		}
		inside := strings.Join(Script(render(f.Code, Fields{})), "\n")
		if strings.Contains(text, ask) {
			said++
		} else if text != inside {
			t.Errorf("%s lost a line, and does not say where the server is:\n%s", f.Code, text)
		}
		if strings.Contains(inside, "outside of the cluster") {
			t.Errorf("%s with Pods:\n%s", f.Code, inside)
		}
	}
	if said == 0 {
		t.Error("no remedy says where the server is")
	}
}
