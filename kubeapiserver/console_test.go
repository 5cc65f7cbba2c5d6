package kubeapiserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// The page is shown to who may get the resource.
func TestConsoleIsForWhoMayReadTheResource(t *testing.T) {
	for _, path := range []string{"/console/", "/console/app.js", "/console/api/about"} {
		if a := server.Get(t, test.Admin, path); a.Code != http.StatusOK || !strings.Contains(a.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("the admin gets %s: %d %v", path, a.Code, a.Header)
		}
		for _, token := range []string{test.Alice, test.Bob} {
			if a := server.Get(t, token, path); a.Code != http.StatusForbidden {
				t.Errorf("%s gets %s: %d", token, path, a.Code)
			}
		}
		if a := server.Get(t, "wrong", path); a.Code != http.StatusUnauthorized {
			t.Errorf("nobody gets %s: %d", path, a.Code)
		}
	}
	if a := server.Get(t, test.Admin, "/console"); a.Code != http.StatusMovedPermanently || a.Header.Get("Location") != "console/" {
		t.Errorf("without the slash: %d to %q", a.Code, a.Header.Get("Location"))
	}
	if a := server.Get(t, test.Admin, "/console/none"); a.Code != http.StatusNotFound {
		t.Errorf("another path: %d %s", a.Code, a.Body)
	}
	if a := server.Get(t, test.Admin, "/console/", "Origin", "https://elsewhere.example"); a.Code != http.StatusForbidden {
		t.Errorf("for another origin: %d %s", a.Code, a.Body)
	}

	// Every user gets to the path, and the refusal is the page's own.
	test.Eventually(t, func() string {
		if a := server.Get(t, test.Alice, "/console/"); a.Code != http.StatusForbidden || !strings.Contains(a.Body, "only who may get remoteapiservices") {
			return a.Body
		}
		return ""
	})
	server.Allow(t, "alice", v1alpha1.GroupVersion.Group)
	test.Eventually(t, func() string {
		if a := server.Get(t, test.Alice, "/console/"); a.Code != http.StatusOK {
			return a.Body
		}
		return ""
	})
}
