//go:build linux || darwin || freebsd

package embedded_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/embedded"
)

func TestWhatIsStoredIsThereAgain(t *testing.T) {
	url := "embedded://" + filepath.Join(t.TempDir(), "etcd")
	for round := range 2 {
		e, err := storage.Open(t.Context(), url, logr.Discard(), embedded.Driver())
		if err != nil {
			t.Fatal(err)
		}
		client, err := clientv3.New(clientv3.Config{Endpoints: e.Targets, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if _, err := client.Put(t.Context(), "k", "v"); err != nil {
				t.Error(err)
			}
		} else if got, err := client.Get(t.Context(), "k"); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
			t.Errorf("after a restart k = %v %v", got, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	for url, want := range map[string]string{
		"embedded://dir":           "absolute path",
		"embedded://":              "absolute path",
		"embedded:///dir?size=2":   `"size"`,
		"embedded:///dir?quota=-1": "such as 2Gi",
	} {
		_, err := storage.Open(t.Context(), url, logr.Discard(), embedded.Driver())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", url, err, want)
		}
	}
}
