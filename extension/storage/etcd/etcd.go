// Package etcd reaches an etcd that runs elsewhere.
package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/annex-api/annex/extension/storage"
)

// Driver opens etcd://[user:password@]host:port[,host:port...][?ca=FILE][&cert=FILE&key=FILE][&tls=true].
// An etcd on this machine may have a Unix socket: etcd:///path/of/socket, which is never encrypted.
// With ca, cert or tls the connections are encrypted and etcd's certificate is verified, by the
// authorities in ca or by those of the system. All three files are read again for each connection, so they may be renewed.
//
// A user must be allowed to read and write below the server's prefix. Servers agree on when etcd is compacted by the key
// compact_rev_key; where a user may not write it, somebody else must compact.
func Driver() storage.Driver {
	return storage.Driver{Scheme: "etcd", Example: "etcd://host:2379?ca=/ca.crt&cert=/client.crt&key=/client.key", Open: open}
}

func open(_ context.Context, u *url.URL, _ logr.Logger) (*storage.Endpoint, error) {
	if u.Host == "" {
		return openSocket(u)
	}
	if u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("etcd has no path %q; the prefix of keys is a setting of the server", u.Path)
	}
	hosts := strings.Split(u.Host, ",")
	encryption, err := encrypted(u.Query(), hosts)
	if err != nil {
		return nil, err
	}
	e := &storage.Endpoint{Name: "etcd " + u.Host, TLS: encryption, User: u.User.Username()}
	e.Password, _ = u.User.Password()
	scheme := "http://"
	if encryption != nil {
		scheme = "https://"
	}
	for _, host := range hosts {
		e.Targets = append(e.Targets, scheme+host)
	}
	return e, nil
}

// openSocket reaches an etcd by its Unix socket.
func openSocket(u *url.URL) (*storage.Endpoint, error) {
	if u.Path == "" || u.Path == "/" {
		return nil, errors.New("no host is named, and no Unix socket")
	}
	if u.RawQuery != "" {
		return nil, errors.New("a Unix socket has no parameters")
	}
	e := &storage.Endpoint{Name: "etcd " + u.Path, Targets: []string{"unix://" + u.Path}, User: u.User.Username()}
	e.Password, _ = u.User.Password()
	return e, nil
}

// encrypted is the TLS setting that the parameters ask for, or nil.
func encrypted(parameters url.Values, hosts []string) (*tls.Config, error) {
	for name := range parameters {
		if !slices.Contains([]string{"ca", "cert", "key", "tls"}, name) {
			return nil, fmt.Errorf("unknown parameter %q; those of etcd are ca, cert, key and tls", name)
		}
	}
	info := transport.TLSInfo{TrustedCAFile: parameters.Get("ca"), CertFile: parameters.Get("cert"), KeyFile: parameters.Get("key")}
	if (info.CertFile == "") != (info.KeyFile == "") {
		return nil, errors.New("cert and key go together")
	}
	switch parameters.Get("tls") {
	case "", "false":
		if info.TrustedCAFile == "" && info.CertFile == "" {
			return nil, nil
		}
		if parameters.Get("tls") == "false" {
			return nil, errors.New("tls=false contradicts ca, cert and key")
		}
	case "true":
	default:
		return nil, errors.New("tls is true or false")
	}
	config, err := info.ClientConfig()
	if err == nil && info.TrustedCAFile != "" {
		// crypto/tls would hold to the authorities that were read first.
		config.RootCAs, config.InsecureSkipVerify = nil, true
		config.VerifyConnection = func(state tls.ConnectionState) error { return verify(state, info.TrustedCAFile, hosts) }
	}
	return config, err
}

// verify does what crypto/tls does, with the authorities that are in the file now.
func verify(state tls.ConnectionState, authorities string, hosts []string) error {
	file, err := os.ReadFile(authorities)
	if err != nil {
		return fmt.Errorf("read the authorities of etcd's certificate: %w", err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(file) {
		return fmt.Errorf("%s has no certificate", authorities)
	}
	for _, certificate := range state.PeerCertificates[1:] {
		intermediates.AddCert(certificate)
	}
	leaf := state.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates}); err != nil {
		return err
	}
	if state.ServerName != "" {
		return leaf.VerifyHostname(state.ServerName)
	}
	// An address is no server name. It is one of those that the URL has, whose servers are one cluster.
	for _, host := range hosts {
		if name, _, splitErr := net.SplitHostPort(host); splitErr == nil {
			host = name
		}
		if err = leaf.VerifyHostname(host); err == nil {
			return nil
		}
	}
	return err
}
