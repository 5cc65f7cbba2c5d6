package etcd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/annex-api/annex/internal/etcd"
	"github.com/annex-api/annex/internal/etcd/datadir"
)

// childDir makes the test binary a writer that acknowledges on standard output, for TestKill.
const childDir = "ANNEX_TEST_ETCD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := writeForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func TestStartServesAndKeepsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	s := start(t, dir)
	c := client(t, s)
	if _, err := c.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	stop(t, s)

	s = start(t, dir)
	defer stop(t, s)
	if got := get(t, client(t, s), "k"); got != "v" {
		t.Errorf("after a restart k = %q, want v", got)
	}
}

func TestNothingIsOpenToOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	s := start(t, dir)
	defer stop(t, s)
	if !strings.HasPrefix(s.Endpoint(), "unix://"+dir) {
		t.Errorf("endpoint %s, want a socket in %s", s.Endpoint(), dir)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v, want mode 0700", info.Mode(), err)
	}
	err := filepath.WalkDir(filepath.Join(dir, "member"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestLongDirectory(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 25), "etcd")
	s := start(t, dir)
	defer stop(t, s)
	if _, err := client(t, s).Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	private := filepath.Dir(strings.TrimPrefix(s.Endpoint(), "unix://"))
	if info, err := os.Stat(private); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v %v, want mode 0700", private, info.Mode(), err)
	}
}

func TestTakenSocketDirectoryIsRefused(t *testing.T) {
	runtimeDir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", runtimeDir)
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 25), "etcd")
	s := start(t, dir)
	private := filepath.Dir(strings.TrimPrefix(s.Endpoint(), "unix://"))
	stop(t, s)
	if _, err := os.Stat(private); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s stays behind: %v", private, err)
	}
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(private, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := etcd.Start(t.Context(), etcd.Options{Dir: dir})
	wantSentence(t, err, private, "mode 0700")
}

func TestSecondMemberNamesTheFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	s := start(t, dir)
	defer stop(t, s)
	_, err := etcd.Start(t.Context(), etcd.Options{Dir: dir})
	var inUse *datadir.InUseError
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Errorf("error %v, want process %d named", err, os.Getpid())
	}
	if _, err := client(t, s).Put(t.Context(), "k", "v"); err != nil {
		t.Errorf("the first member no longer serves: %v", err)
	}
}

func TestBrokenData(t *testing.T) {
	for name, damage := range map[string]struct {
		do   func(dir string) error
		want string
	}{
		"a database of zeros": {func(d string) error { return overwrite(filepath.Join(d, "member/snap/db"), 0, 16<<10) }, "member/snap/db does not parse"},
		"a database cut off":  {func(d string) error { return os.Truncate(filepath.Join(d, "member/snap/db"), 12<<10) }, "member/snap/db does not parse"},
		"no database":         {func(d string) error { return os.Remove(filepath.Join(d, "member/snap/db")) }, "is missing"},
		"no write-ahead log":  {func(d string) error { return os.RemoveAll(filepath.Join(d, "member/wal")) }, "is missing"},
		"a log of garbage":    {func(d string) error { return overwriteWAL(d, 8, 64) }, "write-ahead log"},
		"a foreign file":      {func(d string) error { return os.WriteFile(filepath.Join(d, "notes.txt"), nil, 0o600) }, "notes.txt does not belong there"},
		"a file as a member": {func(d string) error {
			return errors.Join(os.RemoveAll(filepath.Join(d, "member")), os.WriteFile(filepath.Join(d, "member"), nil, 0o600))
		}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "etcd")
			s := start(t, dir)
			c := client(t, s)
			for i := range 50 {
				if _, err := c.Put(t.Context(), fmt.Sprintf("k%d", i), strings.Repeat("v", 1000)); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
			stop(t, s)
			if err := damage.do(dir); err != nil {
				t.Fatal(err)
			}
			before := listing(t, dir)
			_, err := etcd.Start(t.Context(), etcd.Options{Dir: dir})
			wantSentence(t, err, dir, damage.want, "from a backup")
			if after := listing(t, dir); after != before {
				t.Errorf("the data were changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}

func TestKilledWriterLosesNothingAcknowledged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	last := -1
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s", childDir, dir))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if _, err := fmt.Sscanf(lines.Text(), "%d", &last); err != nil {
				t.Fatal(err)
			}
			if n == 100+17*round {
				// Lines already in the pipe are acknowledged too: the loop goes on to its end.
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the writer ended on its own")
		}
	}
	s := start(t, dir)
	defer stop(t, s)
	c := client(t, s)
	for i := range last + 1 {
		if got := get(t, c, key(i)); got != key(i) {
			t.Fatalf("of %d acknowledged writes, number %d is lost", last+1, i)
		}
	}
}

func TestStopDoesNotWaitLongForWatchers(t *testing.T) {
	s := start(t, filepath.Join(t.TempDir(), "etcd"))
	watch := client(t, s).Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	<-watch
	begin := time.Now()
	stop(t, s)
	if d := time.Since(begin); d > 7*time.Second {
		t.Errorf("Stop took %v with an open watch", d)
	}
}

func writeForever(dir string) error {
	s, err := etcd.Start(context.Background(), etcd.Options{Dir: dir})
	if err != nil {
		return err
	}
	c, err := dial(s)
	if err != nil {
		return err
	}
	resp, err := c.Get(context.Background(), "n", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	for i := int(resp.Count); ; i++ {
		if _, err := c.Put(context.Background(), key(i), key(i)); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

func key(i int) string { return fmt.Sprintf("n%06d", i) }

func start(t *testing.T, dir string) *etcd.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := etcd.Start(ctx, etcd.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stop(t *testing.T, s *etcd.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func dial(s *etcd.Server) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Logger: zap.NewNop()})
}

func client(t *testing.T, s *etcd.Server) *clientv3.Client {
	t.Helper()
	c, err := dial(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func get(t *testing.T, c *clientv3.Client, key string) string {
	t.Helper()
	resp, err := c.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

func wantSentence(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has several lines: %q", err)
	}
}

// listing names the files below member with their sizes.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(filepath.Join(dir, "member"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			fmt.Fprintf(&b, "%s %d\n", path, info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func overwrite(path string, offset int64, n int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, n), offset)
	return err
}

func overwriteWAL(dir string, offset int64, n int) error {
	files, err := filepath.Glob(filepath.Join(dir, "member/wal/*.wal"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no log in %s: %w", dir, err)
	}
	f, err := os.OpenFile(files[0], os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte(strings.Repeat("x", n)), offset)
	return err
}
