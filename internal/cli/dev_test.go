package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
)

var widgets = schema.GroupVersionResource{Group: "widgets.example.com", Version: "v1", Resource: "widgets"}

// widgetsProject copies the example to a module of its own, which is built from this checkout
// without a network, and gives the file of its main function.
func widgetsProject(t *testing.T) (folder, mainFile string) {
	t.Helper()
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	folder = filepath.Join(t.TempDir(), "widgets")
	example := filepath.Join(checkout, "examples", "widgets")
	err = filepath.WalkDir(example, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		relative, err := filepath.Rel(example, path)
		if err != nil {
			return err
		}
		save(t, filepath.Join(folder, relative), strings.ReplaceAll(read(t, path), "github.com/annex-api/annex/examples/widgets", "example.com/widgets"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	gomod := strings.Replace(read(t, filepath.Join(checkout, "go.mod")), "module github.com/annex-api/annex", "module example.com/widgets", 1)
	save(t, filepath.Join(folder, "go.mod"), gomod+"\nrequire github.com/annex-api/annex v0.0.0\n\nreplace github.com/annex-api/annex => "+checkout+"\n")
	save(t, filepath.Join(folder, "go.sum"), read(t, filepath.Join(checkout, "go.sum")))
	t.Setenv("GOFLAGS", "-mod=mod -ldflags=-w") // without debug information it links sooner
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOWORK", "off")
	return folder, filepath.Join(folder, "server", "main.go")
}

func save(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mainSaying is the main function with a line on standard error before it serves.
func mainSaying(original, line string) string {
	return strings.Replace(original, "func main() {", fmt.Sprintf("func main() {\n\tprintln(%q)", line), 1)
}

// widgetWriter writes 20 times a second until ctx ends, and gives how many writes there were and
// what failed.
func widgetWriter(ctx context.Context, client dynamic.ResourceInterface) (writes int, failed []error) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for ; ; writes++ {
		select {
		case <-ctx.Done():
			return writes, failed
		case <-ticker.C:
		}
		w := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": widgets.GroupVersion().String(), "kind": "Widget",
			"metadata": map[string]any{"name": fmt.Sprintf("widget-%d", writes)}, "spec": map[string]any{"owner": "me"},
		}}
		if _, err := client.Create(context.WithoutCancel(ctx), w, metav1.CreateOptions{}); err != nil {
			failed = append(failed, fmt.Errorf("write %d: %w", writes, err))
		}
	}
}

// widgetClient writes without a limit, and does not take a 503 with Retry-After for an answer:
// who is told to come again was not served.
func widgetClient(t *testing.T, config *rest.Config) dynamic.ResourceInterface {
	t.Helper()
	config.QPS = -1
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			response, err := next.RoundTrip(r)
			if err == nil && response.StatusCode >= http.StatusInternalServerError {
				_ = response.Body.Close()
				return nil, fmt.Errorf("%s %s is answered %s", r.Method, r.URL.Path, response.Status)
			}
			return response, err
		})
	})
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(widgets).Namespace("default")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// programsBelow are the processes whose program lies in a folder.
func programsBelow(t *testing.T, folder string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		if program, err := os.Readlink(link); err == nil && strings.HasPrefix(program, folder) {
			found = append(found, link+" "+program)
		}
	}
	return found
}

// informed counts how often an informer says of each name that it was added.
type informed struct {
	mu    sync.Mutex
	added map[string]int
}

// widgetInformer runs client-go's until the test ends.
func widgetInformer(t *testing.T, config *rest.Config) *informed {
	t.Helper()
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	i := &informed{added: map[string]int{}}
	informer := dynamicinformer.NewDynamicSharedInformerFactory(client, 0).ForResource(widgets).Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(obj any) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.added[obj.(metav1.Object).GetName()]++
	}}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		informer.RunWithContext(ctx)
	}()
	t.Cleanup(func() { stop(); <-ended })
	waitFor(t, "the informer's list", informer.HasSynced)
	return i
}

// told says whether each of these was added, and fails the test where one was added twice.
func (i *informed) told(t *testing.T, names []string) bool {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, name := range names {
		if i.added[name] == 0 {
			return false
		}
		if i.added[name] > 1 {
			t.Fatalf("the informer says %d times that %s was added", i.added[name], name)
		}
	}
	return true
}

// TestDevSwapsWithoutAFailedRequest: two programs and one that does not build are saved under
// writes. No write fails, none is lost, an informer is told of each, and Ctrl-C leaves nothing behind.
func TestDevSwapsWithoutAFailedRequest(t *testing.T) {
	t.Setenv("HOME", buildHome(t))
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	folder, mainFile := widgetsProject(t)
	original := read(t, mainFile)
	p := run(t, "annex", "dev", "--package", "example.com/widgets/server", "--standalone", "-C", folder)
	out := p.until(t, "export KUBECONFIG=")
	kubeconfig := regexp.MustCompile(`KUBECONFIG=(.*)\n`).FindStringSubmatch(out)[1]
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	informer := widgetInformer(t, rest.CopyConfig(config))
	board := widgetClient(t, config)

	writing, stopWriting := context.WithCancel(t.Context())
	defer stopWriting()
	var writes int
	var failed []error
	written := make(chan struct{})
	go func() {
		defer close(written)
		writes, failed = widgetWriter(writing, board)
	}()
	save(t, mainFile, mainSaying(original, "the second program"))
	if out := p.until(t, "server 2 serves in place of server 1"); !strings.Contains(out, "the second program") {
		t.Errorf("the log of the second program is not shown:\n%s", out)
	}
	save(t, mainFile, mainSaying(original, "the third program")+"\nfunc {")
	p.until(t, "it does not build; server 2 goes on")
	p.until(t, "server/main.go:") // the compiler's words follow
	save(t, mainFile, mainSaying(original, "the third program"))
	out = p.until(t, "server 3 serves in place of server 2")
	waitFor(t, "the end of the second server", func() bool { return len(programsBelow(t, folder)) == 1 })
	if strings.Contains(out, "\x1b") || strings.Contains(out, "│") {
		t.Errorf("the stream is not plain in a pipe:\n%s", out)
	}
	stopWriting()
	<-written
	for _, err := range failed {
		t.Error(err)
	}
	list, err := board.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if writes < 20 || len(list.Items) != writes-len(failed) {
		t.Errorf("%d widgets are there after %d writes", len(list.Items), writes)
	}
	var names []string
	for _, w := range list.Items {
		names = append(names, w.GetName())
	}
	waitFor(t, "the informer to be told of all widgets", func() bool { return informer.told(t, names) })

	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d after SIGINT, want 0", code)
	}
	if left := programsBelow(t, folder); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
	leftovers(t, folder, os.Getenv("XDG_RUNTIME_DIR"))
}

// leftovers checks that annex dev wrote only below .annex, and keeps no program there.
func leftovers(t *testing.T, folder, elsewhere string) {
	t.Helper()
	if there, err := os.ReadDir(elsewhere); err != nil || len(there) > 0 {
		t.Errorf("left in %s: %v %v", elsewhere, there, err)
	}
	if programs, err := os.ReadDir(filepath.Join(folder, ".annex", "bin")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("programs that are left: %v %v", programs, err)
	}
	var names []string
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), ".annex controller.go crd go.mod go.sum server v1 v1beta1 widgets.go"; got != want {
		t.Errorf("the project has %q, want %q", got, want)
	}
}

// TestDevStartsAHost: without a host one is started, the server is registered there and is swapped
// behind it, and the end withdraws what was registered.
func TestDevStartsAHost(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds a server twice and starts a host twice, half a minute; TestDevSwapsWithoutAFailedRequest is the short form")
	}
	t.Setenv("HOME", buildHome(t))
	folder, mainFile := widgetsProject(t)
	p := run(t, "annex", "dev", "--package", "./server", "-C", folder)
	out := p.until(t, "export KUBECONFIG=")
	if !strings.Contains(out, "the host serves v1.widgets.example.com, v1beta1.widgets.example.com") {
		t.Errorf("what is served is not said:\n%s", out)
	}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(folder, ".annex", "host", "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	board := widgetClient(t, config)
	writing, stopWriting := context.WithCancel(t.Context())
	defer stopWriting()
	var failed []error
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, failed = widgetWriter(writing, board)
	}()
	save(t, mainFile, mainSaying(read(t, mainFile), "the second program"))
	p.until(t, "server 2 serves in place of server 1")
	waitFor(t, "the end of the first server", func() bool { return len(programsBelow(t, folder)) == 1 })
	stopWriting()
	<-written
	for _, err := range failed {
		t.Error(err)
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0\n%s", code, p.err)
	}
	if left := programsBelow(t, folder); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}

	again := run(t, "annex", "up", "--quiet", "--data-dir", filepath.Join(folder, ".annex", "host"), "--port", "0")
	again.until(t, "admin.kubeconfig")
	if config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(folder, ".annex", "host", "admin.kubeconfig")); err != nil {
		t.Fatal(err)
	}
	apiServices, err := aggregatorclient.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	list, err := apiServices.ApiregistrationV1().APIServices().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list.Items {
		if a.Spec.Service != nil {
			t.Errorf("APIService %s stays behind", a.Name)
		}
	}
}

// buildHome is a home directory without an annex up, in which the go command finds its caches.
func buildHome(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		t.Setenv(name, goEnv(t, name))
	}
	return t.TempDir()
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	code, out, errs := runToEnd(t, "go", "env", name)
	if code != 0 {
		t.Fatal(errs)
	}
	return strings.TrimSpace(out)
}
