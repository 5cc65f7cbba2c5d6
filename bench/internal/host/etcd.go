package host

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Etcd asks the etcd at a Unix socket by its JSON gateway, as in "kv/put". Byte strings are in base64,
// as encoding/json has []byte.
func Etcd(ctx context.Context, socket, method string, request any) error {
	content, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encoding a request to etcd: %w", err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://etcd/v3/"+method, strings.NewReader(string(content)))
	if err != nil {
		return fmt.Errorf("making a request to etcd: %w", err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return fmt.Errorf("asking etcd: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // Only an example.
		return fmt.Errorf("asking etcd to %s: %s: %s", method, resp.Status, body)
	}
	return nil
}
