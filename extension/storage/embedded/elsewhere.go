//go:build !linux && !darwin && !freebsd

package embedded

import (
	"context"
	"fmt"
	"net/url"
	"runtime"

	"github.com/go-logr/logr"

	"github.com/annex-api/annex/extension/storage"
)

// open: the lock of the directory, and the check whose it is, need a Unix.
func open(context.Context, *url.URL, logr.Logger) (*storage.Endpoint, error) {
	return nil, fmt.Errorf("embedded etcd does not run on %s; name another storage, such as sqlite:///file", runtime.GOOS)
}
