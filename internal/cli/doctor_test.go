package cli_test

import (
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
)

var exported = regexp.MustCompile(`export KUBECONFIG='?([^'\n]+)`)

// Doctor finds nothing on a server whose extension server is well, names what is broken, and its
// remedy mends it.
func TestDoctor(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	up := run(t, "annex", "up", "--demo", "--ephemeral", "--port", "0")
	match := exported.FindStringSubmatch(up.until(t, "Ctrl-C stops it."))
	if match == nil {
		t.Fatal("annex up names no kubeconfig")
	}
	doctor := func(code int, args ...string) string {
		t.Helper()
		got, out, failed := runToEnd(t, "kubectl-annex", append([]string{"doctor", "--kubeconfig", match[1]}, args...)...)
		if got != code {
			t.Errorf("doctor %q: exit %d, want %d\n%s%s", args, got, code, out, failed)
		}
		return out + failed
	}
	doctor(0, "--all", "--verbose")
	if out := doctor(0); !strings.Contains(out, "1 APIService seems well.") {
		t.Errorf("got\n%s", out)
	}

	config, err := clientcmd.BuildConfigFromFlags("", match[1])
	if err != nil {
		t.Fatal(err)
	}
	client, err := aggregatorclient.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	apiServices := client.ApiregistrationV1().APIServices()
	_, err = apiServices.Create(t.Context(), &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1.left.example.com"},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: "left.example.com", Version: "v1", GroupPriorityMinimum: 100, VersionPriority: 100,
			Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: "left-behind"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const remedy = "kubectl delete apiservice v1.left.example.com"
	if out := doctor(1); !strings.Contains(out, "ANX102") || !strings.Contains(out, remedy) || strings.Contains(out, "v1.demo.annex.dev") {
		t.Errorf("got\n%s", out)
	}
	if out := doctor(1, "v1.left.exmaple.com"); !strings.Contains(out, "v1.left.example.com") {
		t.Errorf("the nearest name is not offered:\n%s", out)
	}
	if out := doctor(2, "--as", "nobody"); !strings.Contains(out, "cannot list resource") {
		t.Errorf("without rights:\n%s", out)
	}
	if err := apiServices.Delete(t.Context(), "v1.left.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	doctor(0, "--wait", "--timeout", "1m", "--interval", "200ms")
}
