package testcerts

import (
	"crypto/ecdsa"
	"crypto/x509"
	"os"
	"slices"
	"testing"
	"time"
)

func TestIssue(t *testing.T) {
	ca, other := New("ca"), New("other")
	servers := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	clients := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for what, c := range map[string]struct {
		subject Subject
		host    string
		roots   *Authority
		usage   []x509.ExtKeyUsage
		refused bool
	}{
		"a server":              {Subject{Name: "a", Hosts: []string{"a.test", "127.0.0.1"}}, "a.test", ca, servers, false},
		"a server at its IP":    {Subject{Name: "a", Hosts: []string{"a.test", "127.0.0.1"}}, "127.0.0.1", ca, servers, false},
		"another name":          {Subject{Name: "a.test"}, "a.test", ca, servers, true},
		"a client":              {Subject{Name: "a", Groups: []string{"g"}}, "", ca, clients, false},
		"clients only":          {Subject{Name: "a", Usage: clients}, "", ca, servers, true},
		"expired":               {Subject{Name: "a", NotAfter: time.Now().Add(-time.Minute)}, "", ca, clients, true},
		"not yet valid":         {Subject{Name: "a", NotBefore: time.Now().Add(time.Minute)}, "", ca, clients, true},
		"by another authority":  {Subject{Name: "a"}, "", other, clients, true},
		"with a wildcard":       {Subject{Hosts: []string{"*.x.test"}}, "a.x.test", ca, servers, false},
		"with an IPv6 address":  {Subject{Hosts: []string{"::1"}}, "::1", ca, servers, false},
		"valid only a while":    {Subject{Name: "a", NotAfter: time.Now().Add(time.Minute)}, "", ca, clients, false},
		"valid since long past": {Subject{Name: "a", NotBefore: time.Now().Add(-1000 * time.Hour)}, "", ca, clients, false},
	} {
		leaf := ca.Issue(c.subject).TLS().Leaf
		_, err := leaf.Verify(x509.VerifyOptions{Roots: c.roots.Pool(), DNSName: c.host, KeyUsages: c.usage})
		if (err != nil) != c.refused {
			t.Errorf("%s: %v, want refused %v", what, err, c.refused)
		}
		if leaf.Subject.CommonName != c.subject.Name || !slices.Equal(leaf.Subject.Organization, c.subject.Groups) {
			t.Errorf("%s: it is for %s", what, leaf.Subject)
		}
	}
}

func TestAnAuthorityThatWasWritten(t *testing.T) {
	dir, ca := t.TempDir(), New("ca")
	certFile, keyFile, err := Pair{Cert: ca.PEM, Key: KeyPEM(NewKey())}.Write(dir, "wrong")
	if err != nil {
		t.Fatal(err)
	}
	read := func(file string) []byte {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
		return data
	}
	if _, err := Load(Pair{Cert: read(certFile), Key: read(keyFile)}); err == nil {
		t.Error("an authority with the key of another one was loaded")
	}
	loaded, err := Load(Pair{Cert: ca.PEM, Key: KeyPEM(ca.key.(*ecdsa.PrivateKey))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loaded.Issue(Subject{Name: "a"}).TLS().Leaf.Verify(x509.VerifyOptions{
		Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		t.Errorf("what it signs: %v", err)
	}
	if _, _, err := ca.Issue(Subject{}).Write(dir+"/missing", "x"); err == nil {
		t.Error("a pair was written into a directory that does not exist")
	}
}
