package launch_test

import (
	"slices"
	"testing"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	"github.com/annex-api/annex/kubeapiserver/launch"
)

// own are the flags that the reference does not have.
var own = []string{"data-dir", "annex-plain-kube-apiserver"}

// Every flag of the reference is there with its default, shorthand and help, and only own ones are new.
func TestFlagsAreTheReferences(t *testing.T) {
	reference := app.NewAPIServerCommand().Flags()
	ours := pflag.NewFlagSet("ours", pflag.ContinueOnError)
	launch.New("kube-apiserver", nil).AddFlags(ours)
	n := 0
	reference.VisitAll(func(want *pflag.Flag) {
		n++
		got := ours.Lookup(want.Name)
		if got == nil {
			t.Errorf("--%s is missing", want.Name)
			return
		}
		if got.DefValue != want.DefValue || got.Shorthand != want.Shorthand || got.Usage != want.Usage || got.Deprecated != want.Deprecated || got.NoOptDefVal != want.NoOptDefVal {
			t.Errorf("--%s differs: %+v, want %+v", want.Name, got, want)
		}
	})
	if n < 150 {
		t.Errorf("the reference has %d flags only: the comparison is broken", n)
	}
	ours.VisitAll(func(f *pflag.Flag) {
		if reference.Lookup(f.Name) == nil && !slices.Contains(own, f.Name) {
			t.Errorf("--%s is not the reference's", f.Name)
		}
	})
}

func TestUnderscoresAreHyphens(t *testing.T) {
	o := launch.New("kube-apiserver", nil)
	fs := pflag.NewFlagSet("ours", pflag.ContinueOnError)
	o.AddFlags(fs)
	if err := fs.Parse([]string{"--etcd_servers=http://192.0.2.1:2379"}); err != nil {
		t.Fatal(err)
	}
	if got := o.Server.Etcd.StorageConfig.Transport.ServerList; len(got) != 1 || got[0] != "http://192.0.2.1:2379" {
		t.Errorf("etcd servers %v", got)
	}
	if got := cliflag.WordSepNormalizeFunc(fs, "a_b"); got != "a-b" {
		t.Errorf("normalised to %s", got)
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/x")
	if got := launch.DefaultDataDir(); got != "/x/annex" {
		t.Errorf("with XDG_DATA_HOME: %s", got)
	}
	t.Setenv("XDG_DATA_HOME", "relative")
	t.Setenv("HOME", "/h")
	if got := launch.DefaultDataDir(); got != "/h/.local/share/annex" {
		t.Errorf("with HOME: %s", got)
	}
	t.Setenv("HOME", "")
	if got := launch.DefaultDataDir(); got != "" {
		t.Errorf("without HOME: %s", got)
	}
}
