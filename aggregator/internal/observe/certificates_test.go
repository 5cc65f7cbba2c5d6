package observe

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/annex-api/annex/internal/testcerts"
)

func parse(t *testing.T, certificate []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(certificate)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatIsReadOfACertificate(t *testing.T) {
	ca := testcerts.New("the CA")
	hosts := []string{"api.ns.svc", "192.0.2.1"}
	for i := range 30 {
		hosts = append(hosts, fmt.Sprintf("h%d.example", i))
	}
	got := Read(parse(t, ca.Issue(testcerts.Subject{Name: "a\x1b[31m" + strings.Repeat("b", 40), Hosts: hosts}).Cert))
	if got.Subject != `CN=a�[31m`+strings.Repeat("b", 40) || got.Issuer != "CN=the CA" {
		t.Errorf("%q signed by %q", got.Subject, got.Issuer)
	}
	if len(got.Names) != maxNames || got.Names[0] != "api.ns.svc" {
		t.Errorf("names %q", got.Names)
	}
	authority := Read(parse(t, ca.PEM))
	if got.AuthorityKeyID == "" || got.AuthorityKeyID != authority.KeyID || got.KeyID == "" || got.KeyID == authority.KeyID {
		t.Errorf("key %s of authority %s; that has %s", got.KeyID, got.AuthorityKeyID, authority.KeyID)
	}
	if short := Read(parse(t, ca.Issue(testcerts.Subject{Hosts: hosts[:2]}).Cert)); len(short.Names) != 2 || short.Names[1] != "192.0.2.1" || short.KeyID == got.KeyID {
		t.Errorf("%+v", short)
	}
	if Read(nil) != nil {
		t.Error("there is something to read of no certificate")
	}
}

func TestDaysLeftAreWhole(t *testing.T) {
	for left, want := range map[time.Duration]int64{
		0: 0, time.Second: 0, 24*time.Hour - 1: 0, 24 * time.Hour: 1, 36 * time.Hour: 1, -time.Second: -1, -25 * time.Hour: -2,
	} {
		c := Certificates{Serving: certificate(-time.Hour, left)}
		if got := c.at(now).Serving.DaysLeft; got != want {
			t.Errorf("%v is %d days, want %d", left, got, want)
		}
		if c.Serving.DaysLeft != 0 {
			t.Error("what was read has changed")
		}
	}
}

func TestBundlesAreBounded(t *testing.T) {
	one := testcerts.New("ca").PEM
	key := testcerts.KeyPEM(testcerts.NewKey())
	bad := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("none")})
	for what, c := range map[string]struct {
		bundle []byte
		want   int
	}{
		"nothing":            {nil, 0},
		"no PEM":             {[]byte("hello"), 0},
		"one":                {one, 1},
		"what is none":       {bytes.Join([][]byte{key, one, bad, []byte("words\n"), one}, nil), 2},
		"more than the most": {bytes.Repeat(one, maxCertificates+5), maxCertificates},
	} {
		if got := len(ReadBundle(c.bundle)); got != c.want {
			t.Errorf("%s: %d certificates, want %d", what, got, c.want)
		}
	}
}
