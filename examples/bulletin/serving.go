package bulletin

import (
	"fmt"
	"net"
	"strconv"

	"github.com/google/uuid"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/options"
)

// listen opens the port that o names, or takes the listener that it brings.
func listen(o Options) (net.Listener, error) {
	if o.Listener != nil {
		return o.Listener, nil
	}
	address := net.JoinHostPort(o.BindAddress, strconv.Itoa(o.Port))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve on %s: %w", address, err)
	}
	return l, nil
}

// applyServing sets the certificates and the loopback client of config, which
// will serve on l.
func applyServing(o Options, l net.Listener, config *genericserver.Config) error {
	serving := options.NewSecureServingOptions()
	serving.Listener = l
	// All users come through the few connections of the host's proxy.
	serving.HTTP2MaxStreamsPerConnection = 1000
	serving.ServerCert.CertDirectory = ""
	serving.ServerCert.CertKey.CertFile, serving.ServerCert.CertKey.KeyFile = o.CertFile, o.KeyFile
	if o.CertFile == "" {
		cert, key, err := selfSigned([]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, l.Addr().(*net.TCPAddr).IP})
		if err != nil {
			return err
		}
		if serving.ServerCert.GeneratedCert, err = dynamiccertificates.NewStaticCertKeyContent("serving-cert", cert, key); err != nil {
			return fmt.Errorf("use the serving certificate: %w", err)
		}
	}
	if err := serving.ApplyTo(&config.SecureServing); err != nil {
		return fmt.Errorf("prepare TLS: %w", err)
	}

	// The server calls itself under a name of its own, with a certificate that
	// nobody else sees, whatever the serving certificate is.
	name := genericserver.LoopbackClientServerNameOverride
	cert, key, err := selfSigned([]string{name}, nil)
	if err != nil {
		return err
	}
	loopback, err := dynamiccertificates.NewStaticSNICertKeyContent("loopback", cert, key, name)
	if err != nil {
		return fmt.Errorf("use the loopback certificate: %w", err)
	}
	config.SecureServing.SNICerts = append(config.SecureServing.SNICerts, loopback)
	if config.LoopbackClientConfig, err = config.SecureServing.NewLoopbackClientConfig(uuid.NewString(), cert); err != nil {
		return fmt.Errorf("prepare the loopback client: %w", err)
	}
	return nil
}
