package launch

import (
	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	"github.com/annex-api/annex/kubeapiserver"
)

// Server is the chain that ships.
func Server(config app.CompletedConfig, options ...kubeapiserver.Option) (Runner, error) {
	server, err := kubeapiserver.CreateServerChain(config, options...)
	if err != nil {
		return nil, err
	}
	return server.PrepareRun()
}
