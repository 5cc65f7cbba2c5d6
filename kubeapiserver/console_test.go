package kubeapiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

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

// Doctor asks in the name of who asked it: what they may not see, it does not.
func TestDoctorOfTheConsoleHasTheRightsOfWhoAsks(t *testing.T) {
	v1 := gv("consulted.test", "v1")
	const name = "v1.consulted.test"
	server.CreateRegistration(t, &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: v1.Group, Version: v1.Version, GroupPriorityMinimum: 100, VersionPriority: 100,
			Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: "left-behind"},
		},
	})
	awaitState(t, name, v1alpha1.Unavailable)
	const path = "/console/api/doctor?name=" + name
	if a := server.Get(t, test.Admin, "/console/api/about"); !strings.Contains(a.Body, `"doctor":true`) {
		t.Errorf("the page is told of no doctor: %s", a.Body)
	}
	if a := server.Get(t, test.Admin, path); a.Code != http.StatusOK || !strings.Contains(a.Body, "ANX102") || !strings.Contains(a.Body, "kubectl delete apiservice "+name) {
		t.Errorf("to the admin doctor says: %d %s", a.Code, a.Body)
	}
	if a := server.Get(t, test.Alice, path); a.Code != http.StatusForbidden {
		t.Errorf("alice, who may not see the page, is told %d %s", a.Code, a.Body)
	}
	server.Allow(t, "alice", v1alpha1.GroupVersion.Group)
	test.Eventually(t, func() string {
		if a := server.Get(t, test.Alice, path); a.Code != http.StatusBadGateway || !strings.Contains(a.Body, `User \"alice\" cannot`) {
			return fmt.Sprintf("alice, who may not read APIServices, is told %d %s", a.Code, a.Body)
		}
		return ""
	})
	server.Allow(t, "alice", apiregistrationv1.GroupName)
	test.Eventually(t, func() string {
		a := server.Get(t, test.Alice, path)
		if a.Code != http.StatusOK || !strings.Contains(a.Body, "ANX102") || !strings.Contains(a.Body, `"unseen":["`) {
			return fmt.Sprintf("alice, who may read APIServices and no Services, is told %d %s", a.Code, a.Body)
		}
		return ""
	})
}
