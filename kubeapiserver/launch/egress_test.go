package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestPlainHTTPEgressIsRefused(t *testing.T) {
	const form = `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: controlplane
  connection: {proxyProtocol: Direct}
- name: cluster
  connection: %s
`
	file := filepath.Join(t.TempDir(), "egress.yaml")
	check := func(text string) error {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o := New("kube-apiserver", nil)
		o.Server.EgressSelector.ConfigFile = file
		return o.checkEgress()
	}
	wantSentence(t, check(fmt.Sprintf(form, `{proxyProtocol: HTTPConnect, transport: {tcp: {url: "http://proxy:8131"}}}`)),
		file, "--egress-selector-config-file", "egressSelections[1].connection.transport.tcp.url", `"http://proxy:8131"`, "use https://")
	wantSentence(t, check("kind: Nothing"), file, "--egress-selector-config-file", "cannot be used")
	for _, good := range []string{
		`{proxyProtocol: HTTPConnect, transport: {uds: {udsName: /run/proxy.sock}}}`,
		`{proxyProtocol: HTTPConnect, transport: {tcp: {url: "https://proxy:8131", tlsConfig: {clientCert: c, clientKey: k}}}}`,
		// The reference's own validation has a word for these.
		`{proxyProtocol: HTTPConnect}`,
		`{proxyProtocol: HTTPConnect, transport: {tcp: {url: "http://proxy:8131", tlsConfig: {clientCert: c, clientKey: k}}}}`,
		`{proxyProtocol: GRPC, transport: {tcp: {url: "http://proxy:8131"}}}`,
	} {
		if err := check(fmt.Sprintf(form, good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	if err := New("kube-apiserver", nil).checkEgress(); err != nil {
		t.Errorf("without a file: %v", err)
	}
}
