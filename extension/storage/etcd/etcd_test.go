package etcd_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"

	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/etcd"
)

func TestURLToEndpoint(t *testing.T) {
	e, err := storage.Open(t.Context(), "etcd://me:secret@a:2379,b:2379", logr.Discard(), etcd.Driver())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(e.Targets, []string{"http://a:2379", "http://b:2379"}) || e.TLS != nil {
		t.Errorf("targets %v, TLS %v", e.Targets, e.TLS)
	}
	if e.User != "me" || e.Password != "secret" || strings.Contains(e.Name, "secret") {
		t.Errorf("user %q, password %q, name %q", e.User, e.Password, e.Name)
	}
	e, err = storage.Open(t.Context(), "etcd://a:2379?tls=true", logr.Discard(), etcd.Driver())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(e.Targets, []string{"https://a:2379"}) || e.TLS == nil || e.TLS.InsecureSkipVerify {
		t.Errorf("targets %v, TLS %v", e.Targets, e.TLS)
	}
}

func TestUnixSocket(t *testing.T) {
	e, err := storage.Open(t.Context(), "etcd:///run/me/etcd.sock", logr.Discard(), etcd.Driver())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(e.Targets, []string{"unix:///run/me/etcd.sock"}) || e.TLS != nil {
		t.Errorf("targets %v, TLS %v", e.Targets, e.TLS)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.crt")
	for url, want := range map[string]string{
		"etcd://":                               "no host",
		"etcd:///run/etcd.sock?tls=true":        "Unix socket",
		"etcd://a:2379/registry":                "no path",
		"etcd://a:2379?cafile=x":                `"cafile"`,
		"etcd://a:2379?cert=x":                  "cert and key",
		"etcd://a:2379?tls=maybe":               "true or false",
		"etcd://a:2379?tls=false&ca=" + missing: "contradicts",
		"etcd://a:2379?ca=" + missing:           missing,
	} {
		_, err := storage.Open(t.Context(), url, logr.Discard(), etcd.Driver())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", url, err, want)
		}
	}
}
