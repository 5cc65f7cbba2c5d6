// Package extension runs extension API servers beside the API server of a bench.
package extension

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/pki"
	"github.com/annex-api/annex/bench/internal/process"
)

const (
	readyLimit = 2 * time.Minute
	stopGrace  = 15 * time.Second
)

// Site is where extension servers run: an API server, and a folder for their logs and the
// kubeconfig of its administrator.
type Site struct {
	Host  *host.Host
	Files pki.Files
	Dir   string
}

// Kubeconfig is the path of the administrator's.
func (s Site) Kubeconfig() string { return filepath.Join(s.Dir, "kubeconfig") }

// WriteKubeconfig writes it.
func (s Site) WriteKubeconfig() error {
	config := clientcmdapi.NewConfig()
	config.Clusters["host"] = &clientcmdapi.Cluster{Server: s.Host.URL, CertificateAuthority: s.Files.CA}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificate: s.Files.Admin, ClientKey: s.Files.AdminKey}
	config.Contexts["host"] = &clientcmdapi.Context{Cluster: "host", AuthInfo: "admin"}
	config.CurrentContext = "host"
	if err := clientcmd.WriteToFile(*config, s.Kubeconfig()); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	return nil
}

// Delegated are the flags by which a server on k8s.io/apiserver asks the host who calls and what they
// may do.
func (s Site) Delegated() []string {
	return []string{"--authentication-kubeconfig=" + s.Kubeconfig(), "--authorization-kubeconfig=" + s.Kubeconfig()}
}

// Serving are the flags by which such a server, or one of ours, serves on loopback as a Service of the
// host's.
func (s Site) Serving(port int) []string {
	return []string{
		"--secure-port=" + strconv.Itoa(port), "--bind-address=127.0.0.1",
		"--tls-cert-file=" + s.Files.Extension, "--tls-private-key-file=" + s.Files.ExtensionKey,
	}
}

// Program is an extension server that runs.
type Program struct {
	*process.Process
	Port    int
	URL     string
	Startup time.Duration // from its start to the first good answer of /readyz
}

// Start runs a program, which serves on a port of loopback, until its /readyz is good.
func (s Site) Start(ctx context.Context, name, path string, port int, args ...string) (*Program, error) {
	began := time.Now()
	p, err := process.Start(process.Command{Name: name, Path: path, Args: args, Log: filepath.Join(s.Dir, name+".log")})
	if err != nil {
		return nil, err
	}
	program := &Program{Process: p, Port: port, URL: "https://127.0.0.1:" + strconv.Itoa(port)}
	err = p.Until(ctx, name+" to be ready", readyLimit, host.ReadyInterval, func(ctx context.Context) (bool, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, program.URL+"/readyz", nil)
		if err != nil {
			return false, err
		}
		resp, err := s.Host.Client.Do(r)
		if err != nil {
			return false, nil // It does not listen yet.
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		return nil, errors.Join(err, program.Stop())
	}
	program.Startup = time.Since(began)
	// A server that learns the authorities of its clients from the host asks connections from before for
	// no certificate.
	s.Host.Client.CloseIdleConnections()
	return program, nil
}

// Stop ends the program.
func (p *Program) Stop() error { return p.Process.Stop(stopGrace) }
