package serving

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// files are looked after by somebody else. They are read at every look and not when
// the kernel tells of a change: that works for mounted Secrets and network disks too.
type files struct{ cert, key, ca string }

func (f *files) refresh(context.Context) (shown, time.Duration, error) {
	var s shown
	for _, part := range []struct {
		to   *[]byte
		path string
	}{{&s.cert, f.cert}, {&s.key, f.key}, {&s.bundle, f.ca}} {
		if part.path == "" {
			continue
		}
		text, err := readFile(part.path)
		if err != nil {
			return shown{}, 0, permanent{err}
		}
		*part.to = text
	}
	// Between the writing of one file and of the other they do not fit.
	if _, err := tls.X509KeyPair(s.cert, s.key); err != nil {
		return shown{}, 0, permanent{fmt.Errorf("%s with %s: %w", f.cert, f.key, err)}
	}
	if f.ca != "" && !x509.NewCertPool().AppendCertsFromPEM(s.bundle) {
		return shown{}, 0, permanent{fmt.Errorf("%s has no certificate", f.ca)}
	}
	return s, filePause, nil
}
