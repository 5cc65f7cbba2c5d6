package console

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// cluster is annex up with extension servers behind it.
type cluster struct {
	kubeconfig string
	config     *rest.Config // of the admin
	client     rest.Interface
	host       string // where extension servers listen
	pki        *authority
}

// kubeconfigPath is what annex up --quiet prints.
var kubeconfigPath = regexp.MustCompile(`\S+admin\.kubeconfig`)

// newCluster starts an API server that sends to EndpointSlices, for there is nothing here that
// makes the address of a Service lead anywhere.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	needBrowser(t)
	c := &cluster{host: ownAddress(t), pki: newAuthority(t)}
	_, c.kubeconfig = start(t, kubeconfigPath, "up", "--ephemeral", "--port=0", "--quiet", "--", "--enable-aggregator-routing=true")
	var err error
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig); err != nil {
		t.Fatal(err)
	}
	c.config.QPS = -1 // no bound
	client, err := discovery.NewDiscoveryClientForConfig(c.config)
	if err != nil {
		t.Fatal(err)
	}
	c.client = client.RESTClient()
	return c
}

// ownAddress is one of this machine's that is no loopback address: EndpointSlices take none.
func ownAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, four := range []bool{true, false} {
		for _, a := range all {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && (n.IP.To4() != nil) == four {
				return n.IP.String()
			}
		}
	}
	t.Fatal("this machine has loopback addresses alone, and EndpointSlices take none of these")
	return ""
}

// create makes an object, in the collection at a path.
func (c *cluster) create(t *testing.T, path string, o object) {
	t.Helper()
	body, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.client.Post().AbsPath(path).SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error(); err != nil {
		t.Fatalf("create %v at %s: %v", o["metadata"], path, err)
	}
}

// service is an extension server with its Service and its APIService.
type service struct {
	namespace, name string
	group, version  string
	// daysLeft is how long its certificate holds, out of 90.
	daysLeft int
	latency  time.Duration
	failing  int
	replicas []*replica
}

func (s *service) apiService() string { return s.version + "." + s.group }

// add runs as many replicas of a service, and registers it.
func (c *cluster) add(t *testing.T, s *service, replicas int) {
	t.Helper()
	cert, key := c.pki.issue(t, s.name+"."+s.namespace+".svc", s.daysLeft)
	for range replicas {
		r := &replica{settings: settings{
			Address: net.JoinHostPort(c.host, "0"), Cert: cert, Key: key, Group: s.group, Version: s.version, Latency: s.latency, Failing: s.failing,
		}}
		r.run(t)
		t.Cleanup(func() {
			if r.cmd != nil {
				r.kill(t)
			}
		})
		s.replicas = append(s.replicas, r)
	}
	core := "/api/v1/namespaces"
	if s.namespace != "kube-system" {
		c.create(t, core, object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": s.namespace}})
	}
	c.create(t, core+"/"+s.namespace+"/services", object{
		"apiVersion": "v1", "kind": "Service", "metadata": object{"name": s.name},
		"spec": object{"ports": []object{{"name": "https", "port": 443}}},
	})
	family := "IPv4"
	if net.ParseIP(c.host).To4() == nil {
		family = "IPv6"
	}
	// One for each: all are at one address, and a slice has its ports for all of its addresses.
	slice := func(i, port int, ready bool) object {
		pod := fmt.Sprintf("%s-%d", s.name, i+1)
		return object{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
			"metadata": object{"name": pod, "labels": object{"kubernetes.io/service-name": s.name}},
			"ports":    []object{{"name": "https", "port": port, "protocol": "TCP"}},
			"endpoints": []object{{
				"addresses": []string{c.host}, "conditions": object{"ready": ready}, "nodeName": fmt.Sprintf("node-%d", i+1),
				"zone": "zone-" + string(rune('a'+i)), "targetRef": object{"kind": "Pod", "namespace": s.namespace, "name": pod},
			}},
		}
	}
	slices := "/apis/discovery.k8s.io/v1/namespaces/" + s.namespace + "/endpointslices"
	for i, r := range s.replicas {
		_, port, err := net.SplitHostPort(r.settings.Address)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		c.create(t, slices, slice(i, n, true))
	}
	if replicas == 0 { // a Pod that is not ready
		c.create(t, slices, slice(0, 8443, false))
	}
	c.create(t, "/apis/apiregistration.k8s.io/v1/apiservices", object{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": object{"name": s.apiService()},
		"spec": object{
			"group": s.group, "version": s.version, "groupPriorityMinimum": 1000, "versionPriority": 15, "caBundle": c.pki.pem,
			"service": object{"namespace": s.namespace, "name": s.name, "port": 443},
		},
	})
}

// authority signs the certificates of extension servers.
type authority struct {
	pem  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "extension-ca"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(9 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.pem, a.key = a.sign(t, a.cert)
	return a
}

// sign makes a key, and a certificate of it, as PEM.
func (a *authority) sign(t *testing.T, template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	by := a.key
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// issue writes a certificate for a name, which holds for as many of 90 days from now on, and its
// key.
func (a *authority) issue(t *testing.T, name string, daysLeft int) (certFile, keyFile string) {
	t.Helper()
	const day = 24 * time.Hour
	end := time.Now().Add(time.Duration(daysLeft)*day + day/2)
	cert, key := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: end.Add(-90 * day), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var keyPEM bytes.Buffer
	if err := pem.Encode(&keyPEM, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}); err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	for file, content := range map[string][]byte{certFile: cert, keyFile: keyPEM.Bytes()} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}
