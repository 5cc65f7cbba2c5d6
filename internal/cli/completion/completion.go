// Package completion gives shells the names that only an API server knows.
package completion

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/internal/cli/kubeconfig"
)

const (
	// patience is how long a shell is kept waiting.
	patience = time.Second
	// most bounds the names that are read.
	most = 5000
	// remote selects what kube-apiserver did not register itself, and that is what has an extension server.
	remote = "!kube-aggregator.kubernetes.io/automanaged"
)

// APIServices completes names of APIServices that have an extension server, other than those that are on
// the command line already. Where the API server does not answer within a second nothing is offered.
func APIServices(flags *kubeconfig.Flags) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		// Nobody waits for this goroutine after the time: a plugin for credentials may hang, which no
		// context ends, and the process ends then.
		found := make(chan []string, 1)
		go func() { found <- names(flags) }()
		timer := time.NewTimer(patience)
		defer timer.Stop()
		var offered []cobra.Completion
		select {
		case all := <-found:
			for _, name := range all {
				if strings.HasPrefix(name, begun) && !slices.Contains(args, name) {
					offered = append(offered, name)
				}
			}
		case <-timer.C:
		}
		return offered, cobra.ShellCompDirectiveNoFileComp
	}
}

// names are nil where they cannot be read: a shell's user who has begun a word is told no errors.
func names(flags *kubeconfig.Flags) []string {
	ctx, cancel := context.WithTimeout(kubeconfig.Quiet(context.Background()), patience)
	defer cancel()
	c, err := flags.Connect("completion")
	if err != nil {
		return nil
	}
	client, err := metadata.NewForConfig(c.Config)
	if err != nil {
		return nil
	}
	list, err := client.Resource(apiregistrationv1.SchemeGroupVersion.WithResource("apiservices")).
		List(ctx, metav1.ListOptions{LabelSelector: remote, Limit: most})
	if err != nil {
		return nil
	}
	var all []string
	for i := range list.Items {
		// A shell would run what is in a name that is none.
		if name := list.Items[i].Name; isName(name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// isName is whether a text has the letters that names of APIServices have.
func isName(s string) bool {
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-')
	})
}
