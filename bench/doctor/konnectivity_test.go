package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/apiserver-network-proxy/konnectivity-client/proto/client"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// noAgent is what konnectivity's own server says where there is none.
const noAgent = "No agent available"

// konnectivity is a server of konnectivity, in its protocol, with one agent at most, which is part of
// it. The agent's node has a kube-proxy: cluster IPs lead to endpoints.
type konnectivity struct {
	client.UnimplementedProxyServiceServer
	socket string
	server *grpc.Server
	done   sync.WaitGroup
	// agent says that one is connected.
	agent atomic.Bool
	// routes are those of kube-proxy; the address itself where it has none.
	routes func(ctx context.Context, address string) (string, error)
}

// startKonnectivity listens at a socket. No agent is connected yet.
func startKonnectivity(socket string, routes func(context.Context, string) (string, error)) (*konnectivity, error) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	k := &konnectivity{socket: socket, server: grpc.NewServer(), routes: routes}
	client.RegisterProxyServiceServer(k.server, k)
	k.done.Go(func() { _ = k.server.Serve(listener) }) // until it is stopped
	return k, nil
}

func (k *konnectivity) Close() {
	k.server.Stop()
	k.done.Wait()
}

// configure writes what has an API server reach nodes, Pods and Services through it.
func (k *konnectivity) configure(file string) error {
	return os.WriteFile(file, fmt.Appendf(nil, `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: GRPC
    transport:
      uds:
        udsName: %s
`, k.socket), 0o600)
}

// Proxy implements the server of the protocol: one stream is one connection.
func (k *konnectivity) Proxy(stream client.ProxyService_ProxyServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	wanted := first.GetDialRequest()
	if wanted == nil {
		return errors.New("the first packet is no request to dial")
	}
	const id = 1
	answer := &client.DialResponse{Random: wanted.Random, ConnectID: id, Error: noAgent}
	var conn net.Conn
	if k.agent.Load() {
		answer.Error = ""
		if conn, err = k.dial(stream.Context(), wanted.Address); err != nil {
			answer.Error = err.Error()
		}
	}
	err = stream.Send(&client.Packet{Type: client.PacketType_DIAL_RSP, Payload: &client.Packet_DialResponse{DialResponse: answer}})
	if answer.Error != "" {
		return err
	}
	var back sync.WaitGroup
	defer func() {
		_ = conn.Close() // the reader ends
		back.Wait()
	}()
	if err != nil {
		return err
	}
	back.Go(func() { answerBack(stream, conn, id) })
	for {
		packet, err := stream.Recv()
		if err != nil {
			return nil // the API server has ended the connection
		}
		switch packet.Type {
		case client.PacketType_DATA:
			if _, err := conn.Write(packet.GetData().Data); err != nil {
				return nil // the reader tells it
			}
		case client.PacketType_CLOSE_REQ:
			_ = conn.Close() // the reader tells it
		}
	}
}

// answerBack sends what comes, and that it has ended.
func answerBack(stream client.ProxyService_ProxyServer, conn net.Conn, id int64) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buffer)
		if n > 0 {
			data := &client.Data{ConnectID: id, Data: append([]byte(nil), buffer[:n]...)}
			if stream.Send(&client.Packet{Type: client.PacketType_DATA, Payload: &client.Packet_Data{Data: data}}) != nil {
				return // the API server has ended the connection
			}
		}
		if err != nil {
			end := &client.CloseResponse{ConnectID: id}
			// The API server may have ended the connection.
			_ = stream.Send(&client.Packet{Type: client.PacketType_CLOSE_RSP, Payload: &client.Packet_CloseResponse{CloseResponse: end}})
			return
		}
	}
}

// dial is what an agent does.
func (k *konnectivity) dial(ctx context.Context, address string) (net.Conn, error) {
	address, err := k.routes(ctx, address)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// route is what kube-proxy does: a Service's cluster IP leads to its first endpoint.
func (c *cluster) route(ctx context.Context, address string) (string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	_, services, err := net.ParseCIDR(serviceRange)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip == nil || !services.Contains(ip) {
		return address, nil
	}
	all, err := c.kube.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, s := range all.Items {
		if s.Spec.ClusterIP != host {
			continue
		}
		slices, err := c.kube.DiscoveryV1().EndpointSlices(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + s.Name})
		if err != nil {
			return "", err
		}
		for _, slice := range slices.Items {
			if len(slice.Endpoints) > 0 && len(slice.Ports) > 0 {
				return net.JoinHostPort(slice.Endpoints[0].Addresses[0], fmt.Sprint(*slice.Ports[0].Port)), nil
			}
		}
	}
	return "", fmt.Errorf("dial tcp %s: connect: no route to host", address)
}
