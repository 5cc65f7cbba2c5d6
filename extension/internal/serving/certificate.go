// Package serving gives the certificate that a server shows: it makes, renews and
// reloads it.
//
// New reads or makes the certificate; Run keeps it current. A generic API server takes
// the Certificate as its dynamiccertificates.CertKeyContentProvider. Who registers the
// server publishes its Bundle.
//
// A certificate is renewed by the CA that signed the last one. A new CA is in the
// bundle before it signs, and the old one stays in it for a while, so that a client
// which has the bundle of either moment trusts the certificate of either moment.
package serving

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// Certificate is a serving certificate that changes.
type Certificate struct {
	name   string
	source source
	log    logr.Logger

	mu        sync.Mutex
	shown     shown
	changed   chan struct{}
	next      time.Duration
	listeners []dynamiccertificates.Listener
}

var _ dynamiccertificates.CertKeyContentProvider = (*Certificate)(nil)

// shown is what clients see.
type shown struct{ cert, key, bundle []byte }

func (s shown) equal(o shown) bool {
	return bytes.Equal(s.cert, o.cert) && bytes.Equal(s.key, o.key) && bytes.Equal(s.bundle, o.bundle)
}

// source gives what is to be shown now, and how long that holds. One caller at a time.
type source interface {
	refresh(ctx context.Context) (shown, time.Duration, error)
}

const (
	// minPause and maxPause bound the pause between two looks. Timers stand still while a
	// machine sleeps.
	minPause, maxPause = time.Second, time.Hour
	// sharedPause is how long a replica may not know what another has renewed.
	sharedPause = time.Minute
	// filePause is how long files may have changed unseen.
	filePause = 10 * time.Second
	// retryPause follows a look that failed.
	retryPause = 5 * time.Second
	// lookTimeout bounds one look, startTimeout the first one with its repetitions.
	lookTimeout, startTimeout = 10 * time.Second, 30 * time.Second
)

// New reads the certificate, or makes one. It waits for a host that is still starting
// for up to 30 s.
func New(ctx context.Context, o Options) (*Certificate, error) {
	o.SetDefaults()
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	c := &Certificate{log: o.Log, changed: make(chan struct{})}
	switch {
	case o.CertFile != "":
		c.name, c.source = "serving-cert::"+o.CertFile, &files{cert: o.CertFile, key: o.KeyFile, ca: o.CAFile}
	case o.Folder != "":
		c.name, c.source = "serving-cert::"+o.Folder, &keeper{options: o, store: &folder{dir: o.Folder}, pause: sharedPause}
	case o.Secret.Client != nil:
		c.name, c.source = "serving-cert::secret/"+o.Secret.Name, &keeper{options: o, store: &secret{Secret: o.Secret}, pause: sharedPause}
	default:
		c.name, c.source = "serving-cert::memory", &keeper{options: o, store: &memory{}, pause: maxPause}
	}
	if err := c.start(ctx); err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	return c, nil
}

// start looks until it succeeds, fails for good, or startTimeout is over.
func (c *Certificate) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for waited := false; ; waited = true {
		err := c.refresh(ctx)
		if err == nil || !temporary(err) {
			return err
		}
		if !waited {
			c.log.Info("Waiting for the serving certificate", "reason", err.Error())
		}
		timer := time.NewTimer(200 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// Run keeps the certificate current until ctx ends. It is called at most once.
func (c *Certificate) Run(ctx context.Context) error {
	told := ""
	for {
		c.mu.Lock()
		pause := c.next
		c.mu.Unlock()
		timer := time.NewTimer(min(max(pause, minPause), maxPause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		err := c.refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			c.log.Error(err, "Cannot look after the serving certificate; the last one is shown", "again in", retryPause)
		}
	}
}

// refresh looks once, publishes what has changed, and sets the pause until the next look.
func (c *Certificate) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	s, pause, err := c.source.refresh(ctx)
	if err != nil {
		s, pause = shown{}, retryPause
	}
	for _, listener := range c.publish(s, pause, err == nil) {
		listener.Enqueue()
	}
	return err
}

// publish gives those who are to be told.
func (c *Certificate) publish(s shown, pause time.Duration, found bool) []dynamiccertificates.Listener {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = pause
	if !found || c.shown.equal(s) {
		return nil
	}
	if !bytes.Equal(c.shown.bundle, s.bundle) {
		close(c.changed)
		c.changed = make(chan struct{})
	}
	c.shown = s
	return c.listeners[:len(c.listeners):len(c.listeners)]
}

// Name says where the certificate comes from.
func (c *Certificate) Name() string { return c.name }

// CurrentCertKeyContent gives the certificate and its key, both PEM.
func (c *Certificate) CurrentCertKeyContent() (cert, key []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown.cert, c.shown.key
}

// AddListener adds one that is told when the certificate or the bundle has changed.
func (c *Certificate) AddListener(l dynamiccertificates.Listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners = append(c.listeners, l)
}

// Bundle gives the CAs by which clients know the server, PEM, and a channel that is
// closed when that is no longer true. Nobody may change the bytes. It is empty if the
// certificate comes from files without a CA.
func (c *Certificate) Bundle() (pem []byte, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown.bundle, c.changed
}
