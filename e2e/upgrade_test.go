package e2e

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/annex-api/annex/kubeapiserver/version"
)

// before is the folder of etcd 3.6 that annex up of v1.36.3 has left.
const before = "testdata/annex-1.36.tar.gz"

// TestUpgradeOfADataDirectory goes on with the data of the minor release before: what was written there is
// there, can be changed, and is still there after a restart.
func TestUpgradeOfADataDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(shortTemp(t), "data")
	unpack(t, before, dir)
	// The lock files by which annex knows its own folders are no part of the archive.
	for _, folder := range []string{dir, filepath.Join(dir, "etcd")} {
		if err := os.WriteFile(filepath.Join(folder, "annex.lock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	c := startUp(t, dir)
	if got := c.kubectl(t, "version", "--output=json"); !strings.Contains(got, `"gitVersion": "`+version.GitVersion+`"`) {
		t.Errorf("it is another version: %s", got)
	}
	kept(t, c, "v1.36.3", "3")
	awaitStorageVersion(t, c, "3.7.0")

	c.kubectl(t, "patch", "configmap/kept", "secret/kept", "--type=merge", `--patch={"metadata":{"labels":{"seen-by":"new"}}}`)
	c.kubectl(t, "patch", "configmap/kept", "--type=merge", `--patch={"data":{"written-by":"new"}}`)
	c.kubectl(t, "patch", "things.crd.example.com/kept", "--type=merge", `--patch={"spec":{"size":4}}`)
	c.kubectl(t, "label", "apiservice/v1.kept.example.com", "seen-by=new")
	c.kubectl(t, "create", "configmap", "made", "--from-literal=by=new")
	c.signal(syscall.SIGINT)
	if code := c.exitCode(t); code != 0 {
		t.Fatalf("exit code %d after SIGINT, want 0: %s", code, c.stderr)
	}

	c = startUp(t, dir)
	kept(t, c, "new", "4")
	if got := c.kubectl(t, "get", "configmap/made", "--output=jsonpath={.data.by}"); got != "new" {
		t.Errorf("what was made after the upgrade is %q", got)
	}
	for _, object := range []string{"configmap/kept", "secret/kept", "apiservice/v1.kept.example.com"} {
		if got := c.kubectl(t, "get", object, "--output=jsonpath={.metadata.labels.seen-by}"); got != "new" {
			t.Errorf("the label of %s is %q after a restart", object, got)
		}
	}
}

// kept asserts that the objects of the old server are there.
func kept(t *testing.T, c *cluster, by, size string) {
	t.Helper()
	for _, o := range []struct{ object, path, want string }{
		{"configmap/kept", "{.data.written-by}", by},
		{"secret/kept", "{.data.written-by}", "djEuMzYuMw=="}, // v1.36.3
		{"customresourcedefinition/things.crd.example.com", `{.status.conditions[?(@.type=="Established")].status}`, "True"},
		{"things.crd.example.com/kept", "{.spec.size}", size},
		{"apiservice/v1.kept.example.com", "{.spec.group}/{.spec.version}", "kept.example.com/v1"},
	} {
		got := c.kubectl(t, "get", o.object, "--namespace=default", "--output=jsonpath="+o.path)
		if got != o.want {
			t.Errorf("%s of %s is %q, want %q", o.path, o.object, got, o.want)
		}
	}
}

// awaitStorageVersion waits until etcd has taken the data over: from then on an older one refuses them.
func awaitStorageVersion(t *testing.T, c *cluster, want string) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{c.etcd()}, DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	eventually(t, "etcd's storage version "+want, func(ctx context.Context) error {
		s, err := client.Status(ctx, c.etcd())
		if err == nil && s.StorageVersion != want {
			err = fmt.Errorf("it is %q", s.StorageVersion)
		}
		return err
	})
}

// unpack makes the files of an archive below dir, which nobody else may read.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if h.FileInfo().IsDir() {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
