package gather

import (
	"context"
	"fmt"
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/diagnosis"
)

const (
	// maxOtherServers is how many API servers are asked at their own addresses.
	maxOtherServers = 10
	// inClusterName is in the certificate of each API server, by whatever name callers know it.
	inClusterName = "kubernetes.default.svc"
)

// server is an API server that was asked at its own address.
type server struct {
	address string
	metrics diagnosis.Known[metrics]
}

// eachServer asks the API servers that the Service default/kubernetes leads to for their metrics. The
// caller's credentials go only to those that show a certificate of the cluster's authority.
func (g *gathering) eachServer(ctx context.Context) []server {
	if !g.Direct || g.base.Scheme != "https" || g.config.Insecure {
		return nil
	}
	found, err := list(ctx, g.cluster, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
		selecting("labelSelector", discoveryv1.LabelServiceName+"=kubernetes"), maxSlices, all[discoveryv1.EndpointSlice])
	if err != nil {
		return nil // the one that was asked is known, and that is what is said
	}
	var servers []server
	for _, e := range addresses(found, "https") {
		if len(servers) < maxOtherServers && e.Address != hostPort(g.cluster) {
			servers = append(servers, server{address: e.Address})
		}
	}
	var group sync.WaitGroup
	for i := range servers {
		s := &servers[i]
		group.Go(func() {
			config := rest.CopyConfig(g.config)
			config.Host, config.APIPath, config.ServerName = "https://"+s.address, "", inClusterName
			c, err := connect(config, g.timeout)
			if err != nil {
				s.metrics = diagnosis.Unseen[metrics](fmt.Errorf("ask API server %s: %w", s.address, err))
				return
			}
			defer c.client.CloseIdleConnections()
			s.metrics = c.readMetrics(ctx)
		})
	}
	group.Wait()
	return servers
}
