package launch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/status"
)

const (
	// etcdWait bounds the wait for an external etcd; a kubelet starts both at the same time.
	etcdWait = 10 * time.Second
	// etcdRetry is the pause between two attempts at one endpoint.
	etcdRetry = 250 * time.Millisecond
)

// reachEtcd returns when one of the endpoints has answered a status call, or with an error that
// names each after wait.
func reachEtcd(ctx context.Context, endpoints []string, certFile, keyFile, caFile string, wait time.Duration) error {
	var tlsConfig *tls.Config
	if certFile != "" || keyFile != "" || caFile != "" {
		info := transport.TLSInfo{CertFile: certFile, KeyFile: keyFile, TrustedCAFile: caFile}
		var err error
		if tlsConfig, err = info.ClientConfig(); err != nil {
			return fmt.Errorf("the TLS files for etcd cannot be used (%w); check --etcd-certfile, --etcd-keyfile and --etcd-cafile", err)
		}
	}
	deadline, cancel := context.WithTimeout(ctx, wait)
	defer cancel()

	type answer struct {
		endpoint string
		err      error
	}
	answers := make(chan answer, len(endpoints))
	for _, endpoint := range endpoints {
		go func() { answers <- answer{endpoint, askEtcd(deadline, endpoint, tlsConfig)} }()
	}
	var failed []string
	for range endpoints {
		a := <-answers
		if a.err == nil {
			return nil
		}
		failed = append(failed, fmt.Sprintf("%s: %v", a.endpoint, a.err))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("etcd did not answer within %v (%s); start it or correct --etcd-servers and its certificates", wait, strings.Join(failed, "; "))
}

// askEtcd asks until one answer or the end of ctx; it returns the last error that says more than
// that the time is over.
func askEtcd(ctx context.Context, endpoint string, tlsConfig *tls.Config) error {
	var last error
	for {
		err := etcdStatus(ctx, endpoint, tlsConfig)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		timer := time.NewTimer(etcdRetry)
		select {
		case <-ctx.Done():
			timer.Stop()
			return last
		case <-timer.C:
		}
	}
}

// etcdStatus connects by hand first: the client's own error would be that the time is over.
func etcdStatus(ctx context.Context, endpoint string, tlsConfig *tls.Config) error {
	network, address, secure := dialTarget(endpoint)
	var conn net.Conn
	var err error
	if secure {
		d := tls.Dialer{Config: tlsConfig}
		conn, err = d.DialContext(ctx, network, address)
	} else {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
	}
	if err != nil {
		return err
	}
	if err := conn.Close(); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: tlsConfig, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Status(ctx, endpoint); err != nil {
		return errors.New(status.Convert(err).Message())
	}
	return nil
}

// dialTarget reads an endpoint as etcd's client does.
func dialTarget(endpoint string) (network, address string, secure bool) {
	scheme, rest, ok := strings.Cut(endpoint, ":")
	switch {
	case ok && (scheme == "unix" || scheme == "unixs"):
		return "unix", strings.TrimPrefix(rest, "//"), scheme == "unixs"
	case ok && strings.HasPrefix(rest, "//"):
		return "tcp", strings.TrimRight(strings.TrimPrefix(rest, "//"), "/"), scheme == "https"
	}
	return "tcp", endpoint, false
}
