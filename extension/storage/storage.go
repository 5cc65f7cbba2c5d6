// Package storage names the place where objects are kept, by URL.
//
// A Driver opens the storage of one URL scheme and gives an Endpoint, which speaks
// etcd's protocol whatever lies behind it. The packages below this one are drivers:
// etcd, embedded, and those below kine for memory, SQLite and PostgreSQL. A program
// links only the drivers that it names.
package storage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/go-logr/logr"
)

// Driver opens storage of one URL scheme.
type Driver struct {
	// Scheme is that of its URLs; Example is one of them, for messages.
	Scheme, Example string
	// Open gives an endpoint soon, also where the storage cannot be reached yet: then the
	// endpoint's requests fail until it can. An error is for what waiting does not cure.
	Open func(ctx context.Context, u *url.URL, log logr.Logger) (*Endpoint, error)
}

// Endpoint is a place that speaks etcd's protocol, version 3.
type Endpoint struct {
	// Name is unique in the process; logs and metrics show it.
	Name string
	// Targets are given to the etcd client; Dial, if set, connects to them.
	Targets []string
	Dial    func(ctx context.Context, target string) (net.Conn, error)
	TLS     *tls.Config
	// User and Password authenticate the client where etcd asks for that.
	User, Password string
	// Check asks the database itself, within ctx. Nil means that a request to the
	// endpoint is check enough.
	Check func(ctx context.Context) error
	// Close ends what Open started, and waits. Nil means that there is nothing to end.
	Close func() error
}

// Open opens the storage that a URL names with the driver of its scheme. No error holds
// a secret of the URL.
func Open(ctx context.Context, rawURL string, log logr.Logger, drivers ...Driver) (*Endpoint, error) {
	if rawURL == "" {
		return nil, fmt.Errorf("no storage is named; give a URL%s", known(drivers))
	}
	u, err := parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("the storage's URL does not parse (%w); characters of a password that have a meaning in URLs are written %%XX; give a URL%s", parseFault(err), known(drivers))
	}
	if _, err := url.ParseQuery(u.RawQuery); err != nil {
		return nil, fmt.Errorf("the parameters of the storage's URL do not parse (%w); give a URL%s", parseFault(err), known(drivers))
	}
	for _, d := range drivers {
		if d.Scheme != u.Scheme {
			continue
		}
		endpoint, err := d.Open(ctx, u, log)
		if err != nil {
			return nil, withoutSecrets(fmt.Errorf("open storage %s: %w", Redacted(u), err), u)
		}
		return endpoint, nil
	}
	if u.Scheme == "" {
		return nil, fmt.Errorf("the storage's URL has no scheme; give a URL%s", known(drivers))
	}
	return nil, fmt.Errorf("no driver for storage of scheme %q; give a URL%s", u.Scheme, known(drivers))
}

// known lists what could have been written.
func known(drivers []Driver) string {
	if len(drivers) == 0 {
		return ", and link a driver: this program has none"
	}
	var b strings.Builder
	for i, d := range drivers {
		switch i {
		case 0:
			b.WriteString(" such as ")
		case len(drivers) - 1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(d.Example)
	}
	return b.String()
}

// parse reads a URL that may name several hosts, host:port,host:port, as those of etcd and
// PostgreSQL do. Host then holds them all.
func parse(rawURL string) (*url.URL, error) {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		return url.Parse(rawURL)
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	begin := strings.LastIndexByte(rest[:end], '@') + 1
	hosts := rest[begin:end]
	for host := range strings.SplitSeq(hosts, ",") {
		if _, err := url.Parse(scheme + "://" + host); err != nil {
			return nil, err
		}
	}
	first, _, _ := strings.Cut(hosts, ",")
	u, err := url.Parse(scheme + "://" + rest[:begin] + first + rest[end:])
	if err != nil {
		return nil, err
	}
	u.Host = hosts
	return u, nil
}

// parseFault is what a URL was refused for, without the URL itself. What url.Parse
// quotes of a URL may be a piece of the password, so the kind of the fault is all.
func parseFault(err error) error {
	var escape url.EscapeError
	var host url.InvalidHostError
	switch {
	case errors.As(err, &escape):
		return errors.New("a % begins no escape")
	case errors.As(err, &host):
		return errors.New("the host has a character that hosts have not")
	default:
		return errors.New("its form is not scheme://user:password@host:port/path")
	}
}
