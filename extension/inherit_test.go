package extension_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/annex-api/annex/extension"
)

// inheriting runs the program of a computed kind on the socket of a parent, and gives its end.
func inheriting(t *testing.T, folder string, socket *net.TCPListener) (ready *bufio.Reader, stop func(), ended <-chan error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if err := r.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	// The program closes its descriptors, as one of its own process does.
	arguments := []string{
		"--standalone", folder, "--listen-fd", strconv.Itoa(descriptor(t, socket)), "--ready-fd", strconv.Itoa(descriptor(t, w)), "--drain", "1s",
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- extension.Run(ctx, "things", arguments, io.Discard, computedThings) }()
	return bufio.NewReader(r), cancel, done
}

// descriptor is another one of the same file, which the receiver closes.
func descriptor(t *testing.T, file syscall.Conn) (fd int) {
	t.Helper()
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(f uintptr) { fd, err = syscall.Dup(int(f)) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// computedThings need no storage.
var computedThings = extension.Computed[thing]{
	GroupVersion: thingsV1, Names: extension.Names{Kind: "Thing"}, Every: time.Second,
	List: func(context.Context) ([]thing, error) { return nil, nil },
}

func awaitEnd(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the server does not end")
	}
}

// A server that inherits a socket lets nobody in before it is ready, says so, and another one takes
// over without a request that fails.
func TestAnotherServerTakesOverTheSocket(t *testing.T) {
	folder := t.TempDir()
	socket, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	oldReady, stopOld, oldEnded := inheriting(t, folder, socket)
	if line, err := oldReady.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("readiness is %q, %v", line, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(folder, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "https://" + socket.Addr().String(); config.Host != want {
		t.Errorf("the kubeconfig leads to %s, want %s", config.Host, want)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() {
		t.Helper()
		if _, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(t.Context()); err != nil {
			t.Error(err)
		}
	}
	ask()
	newReady, stopNew, newEnded := inheriting(t, folder, socket)
	if _, err := newReady.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stopOld()
	awaitEnd(t, oldEnded)
	ask()
	stopNew()
	awaitEnd(t, newEnded)
}

func TestAnInheritedDescriptorIsChecked(t *testing.T) {
	for flag, want := range map[string]string{"--listen-fd=1": "begin with 3", "--ready-fd=-1": "begin with 3", "--listen-fd=10000": "10000"} {
		err := extension.Run(t.Context(), "things", []string{"--standalone", t.TempDir(), flag}, io.Discard, computedThings)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", flag, err, want)
		}
	}
}
