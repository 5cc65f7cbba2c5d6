// Package etcd reaches an etcd that runs elsewhere.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/annex-api/annex/extension/storage"
)

// Driver opens etcd://[user:password@]host:port[,host:port...][?ca=FILE][&cert=FILE&key=FILE][&tls=true].
// An etcd on this machine may have a Unix socket: etcd:///path/of/socket, which is never encrypted.
// With ca, cert or tls the connections are encrypted and etcd's certificate is verified, by the
// authorities in ca or by those of the system. The client's certificate and key are read again for each
// connection, so they may be renewed.
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
	encryption, err := encrypted(u.Query())
	if err != nil {
		return nil, err
	}
	e := &storage.Endpoint{Name: "etcd " + u.Host, TLS: encryption, User: u.User.Username()}
	e.Password, _ = u.User.Password()
	scheme := "http://"
	if encryption != nil {
		scheme = "https://"
	}
	for host := range strings.SplitSeq(u.Host, ",") {
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
func encrypted(parameters url.Values) (*tls.Config, error) {
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
	return info.ClientConfig()
}
