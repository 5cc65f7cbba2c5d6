package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/namespace"
	"github.com/annex-api/annex/bench/internal/pki"
	"github.com/annex-api/annex/bench/internal/process"
)

const (
	replicaPort  = 8443
	readyLimit   = 90 * time.Second
	pollInterval = 50 * time.Millisecond
	// connections is how many connections the clients of a load share.
	connections = 8
	clientLimit = 10 * time.Second
)

type object = map[string]any

// setting is what all scenarios have in common.
type setting struct {
	dir      string
	programs build.Programs
	files    pki.Files
	tokens   map[string]string // of each user
}

// The users of the loads. Neither is exempt from the server's fairness.
const (
	loud  = "loud"
	quiet = "quiet"
	group = "bench"
)

func (b *setting) tokenFile() string { return filepath.Join(b.dir, "tokens.csv") }

func (b *setting) makeUsers() error {
	b.tokens = map[string]string{}
	content := ""
	for _, user := range []string{loud, quiet} {
		b.tokens[user] = rand.Text()
		content += fmt.Sprintf("%s,%s,%s,%q\n", b.tokens[user], user, user, group)
	}
	if err := os.WriteFile(b.tokenFile(), []byte(content), 0o600); err != nil {
		return fmt.Errorf("writing the users' tokens: %w", err)
	}
	return nil
}

// stage is one server with its extension servers, for one scenario.
type stage struct {
	setting
	*host.Host
	dir      string
	roots    *x509.CertPool
	caBundle []byte
	replicas []*replica
	clients  []*http.Client
}

// open starts a server.
func (b setting) open(ctx context.Context, subject, letter string) (_ *stage, err error) {
	s := &stage{setting: b, dir: filepath.Join(b.dir, letter+"-"+subject)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the server's folder: %w", err)
	}
	if s.caBundle, err = os.ReadFile(b.files.CA); err != nil {
		return nil, fmt.Errorf("reading the CA: %w", err)
	}
	s.roots = x509.NewCertPool()
	if !s.roots.AppendCertsFromPEM(s.caBundle) {
		return nil, fmt.Errorf("%s has no certificate", b.files.CA)
	}
	s.Host, err = host.Start(ctx, host.Config{
		Name: subject, Command: b.programs.Servers[subject], Etcd: b.programs.Etcd, Dir: s.dir, Files: b.files,
		Flags: []string{
			"--enable-aggregator-routing=true",
			// There is no default route that would tell.
			"--advertise-address=" + namespace.Address,
			"--token-auth-file=" + b.tokenFile(),
		},
	})
	if err != nil {
		return nil, err
	}
	return s, s.prepare(ctx)
}

// prepare makes the namespace, the users' rights and a built-in object to read.
func (s *stage) prepare(ctx context.Context) error {
	for _, c := range []struct {
		path string
		o    object
	}{
		{"/api/v1/namespaces", object{"metadata": object{"name": fixture.Namespace}}},
		{"/api/v1/namespaces/" + fixture.Namespace + "/configmaps", object{"metadata": object{"name": "one"}, "data": object{"key": "value"}}},
		{"/apis/rbac.authorization.k8s.io/v1/clusterroles", object{
			"metadata": object{"name": group},
			"rules":    []object{{"apiGroups": []string{"*"}, "resources": []string{"*"}, "verbs": []string{"get", "list", "watch", "create"}}},
		}},
		{"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", object{
			"metadata": object{"name": group},
			"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": group},
			"subjects": []object{{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}},
		}},
	} {
		if err := s.Create(ctx, c.path, c.o); err != nil {
			return fmt.Errorf("preparing the server: %w", err)
		}
	}
	return nil
}

// close ends everything, frozen replicas too.
func (s *stage) close() error {
	var errs []error
	for _, c := range s.clients {
		c.CloseIdleConnections()
	}
	for _, r := range s.replicas {
		if r.process != nil {
			errs = append(errs, r.process.Kill())
		}
	}
	if s.Host != nil {
		// Nobody needs its data: it need not take its time.
		if s.Host.Server != nil {
			errs = append(errs, s.Host.Server.Kill())
		}
		errs = append(errs, s.Host.Stop())
	}
	return errors.Join(errs...)
}

// replica is one process of an extension server, at an address of its own.
type replica struct {
	stage   *stage
	host    string
	name    string
	journal string
	args    []string
	starts  int
	process *process.Process
}

// replica adds a replica, not started yet; args go to the backend.
func (s *stage) replica(args ...string) *replica {
	n := len(s.replicas) + 1
	r := &replica{stage: s, host: fmt.Sprintf("10.77.1.%d", n), name: fmt.Sprintf("replica-%d", n), args: args}
	r.journal = filepath.Join(s.dir, r.name+".journal")
	s.replicas = append(s.replicas, r)
	return r
}

// start starts the replica and waits until it listens.
func (r *replica) start(ctx context.Context) error {
	r.starts++
	f := r.stage.files
	address := net.JoinHostPort(r.host, fmt.Sprint(replicaPort))
	args := append([]string{
		"-addr=" + address, "-cert=" + f.Extension, "-key=" + f.ExtensionKey, "-client-ca=" + f.ProxyCA, "-journal=" + r.journal,
	}, r.args...)
	log := filepath.Join(r.stage.dir, fmt.Sprintf("%s-%d.log", r.name, r.starts))
	p, err := process.Start(process.Command{Name: r.name, Path: r.stage.programs.Backend, Args: args, Log: log})
	if err != nil {
		return err
	}
	r.process = p
	return p.Until(ctx, r.name+" to listen", readyLimit, time.Millisecond, func(context.Context) (bool, error) {
		content, err := os.ReadFile(log)
		return len(content) > 0, err // Its first line says that it listens.
	})
}

// startAll starts replicas that are added with the same arguments.
func (s *stage) startAll(ctx context.Context, count int, args ...string) error {
	for range count {
		if err := s.replica(args...).start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// noted lists the ids of the requests with a method that reached the replicas.
func (s *stage) noted(method string) ([]string, error) {
	var ids []string
	for _, r := range s.replicas {
		file, err := os.Open(r.journal)
		if err != nil {
			return nil, fmt.Errorf("reading what %s got: %w", r.name, err)
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			if id, ok := cutMethod(lines.Text(), method); ok {
				ids = append(ids, id)
			}
		}
		if err := errors.Join(lines.Err(), file.Close()); err != nil {
			return nil, fmt.Errorf("reading what %s got: %w", r.name, err)
		}
	}
	return ids, nil
}

// client returns connections that the requests of a load share.
func (s *stage) client(count int) []*http.Client {
	clients := make([]*http.Client, count)
	for i := range clients {
		clients[i] = &http.Client{Transport: &http.Transport{
			TLSClientConfig:    &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots},
			ForceAttemptHTTP2:  true,
			DisableCompression: true,
		}}
	}
	s.clients = append(s.clients, clients...)
	return clients
}

// available is the status of the Available condition of the n-th APIService.
func (s *stage) available(ctx context.Context, n int) (string, error) {
	body, err := s.Get(ctx, "/apis/apiregistration.k8s.io/v1/apiservices/"+fixture.APIService(n), nil)
	if err != nil {
		return "", err
	}
	var a struct {
		Status struct {
			Conditions []struct{ Type, Status string }
		}
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return "", fmt.Errorf("decoding an APIService: %w", err)
	}
	for _, c := range a.Status.Conditions {
		if c.Type == "Available" {
			return c.Status, nil
		}
	}
	return "", nil
}
