package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// Quiet keeps client-go from logging what a command says itself, by the errors that it returns.
func Quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, logr.Discard()) }

// MaxAnswer bounds the answer to a request that is not a watch. It is above what kube-apiserver
// gives for 2,000 APIServices with the longest messages that etcd takes in pages.
const MaxAnswer = 128 << 20

// limitAnswers ends answers that are longer than MaxAnswer, and follows no redirect.
func limitAnswers(next http.RoundTripper) http.RoundTripper { return limited{next} }

// errRedirected: the caller's credentials would go wherever a server says.
var errRedirected = errors.New("the API server leads to another address, which is not followed")

type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Response != nil { // the redirect that led to it
		return nil, errRedirected
	}
	resp, err := l.next.RoundTrip(req)
	if err != nil || resp.Body == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, err
	}
	if q := req.URL.Query(); q.Get("watch") == "" || q.Get("watch") == "false" || q.Get("watch") == "0" {
		resp.Body = &bounded{ReadCloser: resp.Body, left: MaxAnswer}
	}
	return resp, nil
}

// WrappedRoundTripper is how client-go finds what ends a request.
func (l limited) WrappedRoundTripper() http.RoundTripper { return l.next }

type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the answer is longer than %d MiB", MaxAnswer>>20)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
