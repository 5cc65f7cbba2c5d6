package launch

import (
	"fmt"
	"strings"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/server/egressselector"
)

// checkEgress refuses a plain HTTP proxy over TCP, which passes the reference's validation and makes
// it panic afterwards. All else that is wrong with the file the reference says itself.
func (o *Options) checkEgress() error {
	if o.Server.EgressSelector == nil || o.Server.EgressSelector.ConfigFile == "" {
		return nil
	}
	file := o.Server.EgressSelector.ConfigFile
	config, err := egressselector.ReadEgressSelectorConfiguration(file)
	if err != nil {
		return fmt.Errorf("file %s of --egress-selector-config-file cannot be used (%w); name a readable EgressSelectorConfiguration", file, withoutPath(err, file))
	}
	for i, s := range config.EgressSelections {
		c := s.Connection
		if c.ProxyProtocol != apiserver.ProtocolHTTPConnect || c.Transport == nil || c.Transport.TCP == nil || c.Transport.UDS != nil {
			continue
		}
		if tcp := c.Transport.TCP; tcp.TLSConfig == nil && strings.HasPrefix(tcp.URL, "http://") {
			return fmt.Errorf("file %s of --egress-selector-config-file: egressSelections[%d].connection.transport.tcp.url %q is plain HTTP, which HTTPConnect over TCP cannot do; use https:// with a tlsConfig, or transport.uds", file, i, tcp.URL)
		}
	}
	return nil
}
