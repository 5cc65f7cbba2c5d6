package launch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// preflight finds bad input that would otherwise end in a stack of log lines. What it refuses, the
// server could not have run with.
func (o *Options) preflight(ctx context.Context, externalEtcd bool) error {
	if err := o.checkPort(ctx); err != nil {
		return err
	}
	if err := o.checkFiles(time.Now()); err != nil {
		return err
	}
	if err := o.checkEgress(); err != nil {
		return err
	}
	if !externalEtcd {
		return nil
	}
	t := o.Server.Etcd.StorageConfig.Transport
	return reachEtcd(ctx, t.ServerList, t.CertFile, t.KeyFile, t.TrustedCAFile, etcdWait)
}

// checkPort takes the port for a moment.
func (o *Options) checkPort(ctx context.Context) error {
	s := o.Server.SecureServing
	if s.Listener != nil || s.BindPort == 0 || s.PermitPortSharing {
		return nil
	}
	l, err := Listen(ctx, s.BindNetwork, s.BindAddress, s.BindPort)
	if err != nil {
		return err
	}
	return l.Close()
}

// Listen listens, or says in one sentence why not and who holds the port. Network is tcp, tcp4,
// tcp6 or empty.
func Listen(ctx context.Context, network string, address net.IP, port int) (net.Listener, error) {
	if network == "" {
		network = "tcp"
	}
	at := net.JoinHostPort(address.String(), strconv.Itoa(port))
	var config net.ListenConfig
	l, err := config.Listen(ctx, network, at)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		holder := "another process"
		if who := portHolder(port); who != "" {
			holder = who
		}
		return nil, fmt.Errorf("address %s is in use by %s; stop it or choose another port", at, holder)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("address %s belongs to no interface of this machine; choose another address to bind", at)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("user %d may not listen on %s; choose a port above 1023", os.Geteuid(), at)
	}
	return nil, fmt.Errorf("cannot listen on %s (%w); choose another address or port", at, err)
}

// checkFiles parses the certificates and keys that flags name.
func (o *Options) checkFiles(now time.Time) error {
	s := o.Server
	type pair struct{ certFlag, cert, keyFlag, key string }
	pairs := []pair{
		{"tls-cert-file", s.SecureServing.ServerCert.CertKey.CertFile, "tls-private-key-file", s.SecureServing.ServerCert.CertKey.KeyFile},
		{"proxy-client-cert-file", s.ProxyClientCertFile, "proxy-client-key-file", s.ProxyClientKeyFile},
		{"etcd-certfile", s.Etcd.StorageConfig.Transport.CertFile, "etcd-keyfile", s.Etcd.StorageConfig.Transport.KeyFile},
		{"kubelet-client-certificate", s.KubeletConfig.TLSClientConfig.CertFile, "kubelet-client-key", s.KubeletConfig.TLSClientConfig.KeyFile},
	}
	for _, sni := range s.SecureServing.SNICertKeys {
		pairs = append(pairs, pair{"tls-sni-cert-key", sni.CertFile, "tls-sni-cert-key", sni.KeyFile})
	}
	for _, p := range pairs {
		if p.cert == "" || p.key == "" {
			continue // the reference's own validation knows what must go together
		}
		if err := checkPair(p.certFlag, p.cert, p.keyFlag, p.key, now); err != nil {
			return err
		}
	}
	bundles := map[string]string{
		"etcd-cafile":                   s.Etcd.StorageConfig.Transport.TrustedCAFile,
		"kubelet-certificate-authority": s.KubeletConfig.TLSClientConfig.CAFile,
		"peer-ca-file":                  s.PeerCAFile,
	}
	if s.Authentication.ClientCert != nil {
		bundles["client-ca-file"] = s.Authentication.ClientCert.ClientCA
	}
	if s.Authentication.RequestHeader != nil {
		bundles["requestheader-client-ca-file"] = s.Authentication.RequestHeader.ClientCAFile
	}
	for flag, file := range bundles {
		if file == "" {
			continue
		}
		if _, err := cert.CertsFromFile(file); err != nil {
			return fmt.Errorf("certificates %s of --%s cannot be used (%w); name a file of PEM certificates", file, flag, withoutPath(err, file))
		}
	}
	if s.Authentication.ServiceAccounts != nil {
		for _, file := range s.Authentication.ServiceAccounts.KeyFiles {
			if _, err := keyutil.PublicKeysFromFile(file); err != nil {
				return fmt.Errorf("key %s of --service-account-key-file does not parse; name a file of PEM keys, RSA or ECDSA", file)
			}
		}
	}
	if file := s.ServiceAccountSigningKeyFile; file != "" {
		if _, err := keyutil.PrivateKeyFromFile(file); err != nil {
			return fmt.Errorf("key %s of --service-account-signing-key-file does not parse; name a PEM private key, RSA or ECDSA", file)
		}
	}
	return nil
}

func checkPair(certFlag, certFile, keyFlag, keyFile string, now time.Time) error {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return fmt.Errorf("certificate %s of --%s cannot be read (%w); check the path and its owner", certFile, certFlag, withoutPath(err, certFile))
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("key %s of --%s cannot be read (%w); check the path and its owner", keyFile, keyFlag, withoutPath(err, keyFile))
	}
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return fmt.Errorf("certificate %s of --%s does not parse (no PEM block); name a PEM certificate", certFile, certFlag)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("certificate %s of --%s does not parse (%w); name a PEM certificate", certFile, certFlag, err)
	}
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return fmt.Errorf("key %s of --%s does not belong to certificate %s, or does not parse; name the certificate's own PEM key", keyFile, keyFlag, certFile)
	}
	if now.Before(leaf.NotBefore) {
		return fmt.Errorf("the system clock says %s, before certificate %s of --%s starts at %s; set the clock right",
			now.UTC().Format(time.RFC3339), certFile, certFlag, leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// withoutPath drops the path that an error repeats.
func withoutPath(err error, path string) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	if text := err.Error(); strings.Contains(text, path) {
		return errors.New(strings.TrimSpace(strings.ReplaceAll(text, path, "it")))
	}
	return err
}
