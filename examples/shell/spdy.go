package shell

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/exec"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// create bounds the wait for the streams that a client has said it will open.
const create = 30 * time.Second

// serveSPDY speaks SPDY by the code that a kubelet runs.
func serveSPDY(ctx context.Context, w http.ResponseWriter, r *http.Request, p program) {
	o := requested(r)
	if !o.stdin {
		refuse(w, apierrors.NewBadRequest("a session needs stdin=true"))
		return
	}
	run := func(s session) error { return p.run(ctx, s) }
	var readers sync.WaitGroup
	remotecommand.ServeExec(w, r, executor{run, &readers}, p.name, "", "", nil,
		&remotecommand.Options{Stdin: true, Stdout: o.stdout, Stderr: o.stderr, TTY: o.tty},
		idle, create, remotecommand.SupportedStreamingProtocols)
	readers.Wait()
}

// executor runs the program where a kubelet runs a container's.
type executor struct {
	run     func(session) error
	readers *sync.WaitGroup
}

// ExecInContainer implements remotecommand.Executor.
func (e executor) ExecInContainer(_ context.Context, _, _, _ string, _ []string, in io.Reader, out, errOut io.WriteCloser, tty bool, sizes <-chan size, _ time.Duration) error {
	err := e.run(session{in: in, out: out, errOut: errOut, tty: tty, sizes: sizes, readers: e.readers})
	var exit exec.CodeExitError
	if err == nil || errors.As(err, &exit) {
		return err
	}
	return exec.CodeExitError{Err: err, Code: failed}
}

// refuse answers with an error of the API in place of a session.
func refuse(w http.ResponseWriter, problem *apierrors.StatusError) {
	status := problem.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status) // the client may have gone
}
