package console

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// extensionVariable turns this test's binary into an extension API server: a process of its own
// can be killed as they are. Its value is the settings, as JSON.
const extensionVariable = "ANNEX_CONSOLE_TEST_EXTENSION"

// settings are those of one replica.
type settings struct {
	Address        string // host:port; with port 0 it takes a free one
	Cert, Key      string // files
	Group, Version string
	// Latency is about how long requests take, but for those of discovery, and each Failing one of
	// them is answered 500.
	Latency time.Duration
	Failing int
}

// serveExtension answers discovery, and lists of things, until standard input ends, which is when
// the test does.
func serveExtension(config string) error {
	var s settings
	if err := json.Unmarshal([]byte(config), &s); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.Address)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.ServeTLS(listener, s.handler(), s.Cert, s.Key)
}

func (s settings) handler() http.Handler {
	groupVersion := s.Group + "/" + s.Version
	preferred := object{"groupVersion": groupVersion, "version": s.Version}
	group := object{"kind": "APIGroup", "apiVersion": "v1", "name": s.Group, "versions": []object{preferred}, "preferredVersion": preferred}
	mux := http.NewServeMux()
	answer := func(path string, o object) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(o) // the client may have gone
		})
	}
	answer("/apis", object{"kind": "APIGroupList", "apiVersion": "v1", "groups": []object{group}})
	answer("/apis/"+s.Group, group)
	answer("/apis/"+groupVersion, object{
		"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": groupVersion,
		"resources": []object{{"name": "things", "singularName": "thing", "kind": "Thing", "namespaced": false, "verbs": []string{"get", "list"}}},
	})
	list := object{"kind": "ThingList", "apiVersion": groupVersion, "metadata": object{}, "items": []object{}}
	answer("/things", list)
	mux.HandleFunc("/apis/"+groupVersion+"/things", func(w http.ResponseWriter, r *http.Request) {
		if s.Failing > 0 && rand.IntN(s.Failing) == 0 {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		select {
		case <-time.After(time.Duration(float64(s.Latency) * (0.5 + rand.ExpFloat64()))):
			r.URL.Path = "/things"
			mux.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
	return mux
}

// replica is an extension API server in a process of its own.
type replica struct {
	settings settings
	cmd      *exec.Cmd
	stdin    io.Closer
}

// run starts the replica, at the address that it had if it ran before.
func (r *replica) run(t *testing.T) {
	t.Helper()
	config, err := json.Marshal(r.settings)
	if err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command(os.Args[0])
	r.cmd.Env = append(os.Environ(), extensionVariable+"="+string(config))
	r.cmd.Stderr = os.Stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		r.kill(t)
		t.Fatalf("an extension server did not start: %v", err)
	}
	r.settings.Address = strings.TrimSpace(line)
}

// kill ends the replica without a farewell, as the kernel does for want of memory.
func (r *replica) kill(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = r.cmd.Wait() // it was killed
	_ = r.stdin.Close()
	r.cmd = nil
}
