package launch

import (
	"testing"

	"github.com/spf13/pflag"
)

// Unlike in the reference, the absence of --enable-aggregator-routing is not =false.
func TestFlagsThatAreOptionsOfTheChain(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
	}{
		{nil, 0},
		{[]string{"--enable-aggregator-routing=false"}, 1},
		{[]string{"--enable_aggregator_routing=false"}, 1},
		{[]string{"--enable-aggregator-routing=true"}, 0},
		{[]string{"--enable-aggregator-routing"}, 0},
		{[]string{"--enable-aggregator-routing=true", "--enable-aggregator-routing=false"}, 1},
		{[]string{"--annex-plain-kube-apiserver"}, 1},
		{[]string{"--annex-plain-kube-apiserver", "--enable-aggregator-routing=false"}, 2},
	} {
		o := New("kube-apiserver", nil)
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		o.AddFlags(fs)
		if err := fs.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		if got := len(o.chainOptions()); got != c.want {
			t.Errorf("%q: %d options, want %d", c.args, got, c.want)
		}
	}
}
