package up

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/annex-api/annex/kubeapiserver/certs"
)

func TestClosedLogStaysClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := newLogFile(path)
	if _, err := l.Write([]byte("one\n")); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("two\n")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a write after Close made the file again: %v", err)
	}
}

func TestChosenKubeconfigKeepsItsOtherContexts(t *testing.T) {
	dir := t.TempDir()
	store, err := certs.Open(certs.Options{Dir: filepath.Join(dir, "pki")})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config")
	other := "apiVersion: v1\nkind: Config\nclusters: [{name: work, cluster: {server: 'https://work'}}]\ncontexts: [{name: work, context: {cluster: work}}]\ncurrent-context: work\n"
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &Options{DataDir: dir, Kubeconfig: path, BindAddress: net.IPv4(127, 0, 0, 1), Port: 7443}
	if err := o.writeKubeconfigs(store.Files()); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if config.Clusters["work"] == nil || config.Contexts["work"] == nil {
		t.Error("the other cluster is lost")
	}
	if config.CurrentContext != "annex" || config.Clusters["annex"].Server != "https://127.0.0.1:7443" {
		t.Errorf("current context %s, server %v", config.CurrentContext, config.Clusters["annex"])
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v, want 0600", info.Mode(), err)
	}
}

func TestAddress(t *testing.T) {
	for bind, want := range map[string]string{
		"127.0.0.1": "https://127.0.0.1:1", "0.0.0.0": "https://127.0.0.1:1", "::": "https://[::1]:1", "192.0.2.1": "https://192.0.2.1:1",
	} {
		o := &Options{BindAddress: net.ParseIP(bind), Port: 1}
		if got := o.address(); got != want {
			t.Errorf("bound to %s: %s, want %s", bind, got, want)
		}
	}
}

func TestRenderTable(t *testing.T) {
	table := metav1.Table{
		ColumnDefinitions: []metav1.TableColumnDefinition{{Name: "Name"}, {Name: "UID", Priority: 1}, {Name: "Severity"}},
		Rows:              []metav1.TableRow{{Cells: []any{"welcome", "x", "info"}, Object: runtime.RawExtension{}}},
	}
	b, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	got, err := renderTable(b)
	if want := "NAME      SEVERITY\nwelcome   info\n"; err != nil || got != want {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
	if _, err := renderTable([]byte("<html>")); err == nil {
		t.Error("no error for what is no table")
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"/a/b": "/a/b", "/a b": "'/a b'", "/it's": `'/it'\''s'`} {
		if got := shellQuote(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// The demo reaches the etcd that its host has, however that is reached.
func TestStorageOfTheDemo(t *testing.T) {
	for want, c := range map[string]storagebackend.TransportConfig{
		"etcd:///run/annex/etcd.sock":         {ServerList: []string{"unix:///run/annex/etcd.sock"}},
		"etcd://127.0.0.1:2379":               {ServerList: []string{"http://127.0.0.1:2379"}},
		"etcd://a:2379,b:2379?tls=true":       {ServerList: []string{"https://a:2379", "https://b:2379"}},
		"etcd://a:1?ca=%2Fca.crt&tls=true":    {ServerList: []string{"https://a:1"}, TrustedCAFile: "/ca.crt"},
		"etcd://a:1?cert=c&key=k&tls=true":    {ServerList: []string{"https://a:1"}, CertFile: "c", KeyFile: "k"},
		"etcd://[::1]:2379?tls=true":          {ServerList: []string{"https://[::1]:2379"}},
		"read the URL of etcd: parse \":\": ": {ServerList: []string{":"}},
	} {
		got, err := storageURL(c)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%v is %s, not %s", c.ServerList, got, want)
		}
	}
}
