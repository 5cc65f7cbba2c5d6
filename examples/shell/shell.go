// Package shell serves a kind whose objects can be talked to: the subresource attach is a
// terminal over WebSocket or SPDY, in the protocols that kubectl exec and kubectl attach speak,
// and over plain WebSocket messages for whoever has no such client.
//
// The shell at its other end is part of this program. It knows sums and a few words. It starts
// no process and opens no file: whoever may create shells/attach gets no more than that.
package shell

import (
	"context"
	"embed"
	"net/http"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v1 "github.com/annex-api/annex/examples/shell/v1"
	"github.com/annex-api/annex/extension"
)

//go:generate go tool -modfile=../../tools/go.mod controller-gen object paths=./...
//go:generate go tool -modfile=../../tools/go.mod controller-gen crd paths=./... output:crd:dir=crd

//go:embed crd
var crds embed.FS

// Shells is the kind. A kube-apiserver in front takes a subresource called attach for a long
// request, whatever group it is of.
var Shells = extension.Resource[v1.Shell, v1.ShellList]{
	GroupVersion: v1.GroupVersion,
	Schema:       crds,
	Sub:          extension.Sub(extension.Connect("attach", attach)),
}

// attach opens a session. The query says which streams it has, as it does for Pods: stdin,
// stdout, stderr and tty.
func attach(ctx context.Context, s *v1.Shell) (http.Handler, error) {
	p := program{name: s.Name, user: extension.CallerOf(ctx).Name, prompt: *s.Spec.Prompt}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case websocket.IsWebSocketUpgrade(r):
			serveWebSocket(ctx, w, r, p)
		case r.Header.Get("Upgrade") != "":
			serveSPDY(ctx, w, r, p)
		default:
			refuse(w, apierrors.NewBadRequest("a session needs an upgrade to WebSocket or SPDY"))
		}
	}), nil
}
