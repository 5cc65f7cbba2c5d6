// Package kubeconfig finds the API server to talk to, and the credentials for it, as kubectl does.
//
// It reads with client-go's clientcmd, so that files are found and merged as by kubectl. It does not use
// k8s.io/cli-runtime's ConfigFlags: those would add kustomize and a discovery cache on disk to what a
// command depends on, take a token on the command line, where every process can read it, and go to
// localhost:8080 where there is no kubeconfig.
package kubeconfig

import (
	"time"

	"github.com/spf13/cobra"
)

// DefaultRequestTimeout ends a request that is not answered.
const DefaultRequestTimeout = 10 * time.Second

// Flags are kubectl's for clients. The zero value is what a command without any of them means.
type Flags struct {
	Kubeconfig string
	Context    string
	Cluster    string
	User       string

	Server                string
	TLSServerName         string
	CertificateAuthority  string
	InsecureSkipTLSVerify bool
	ProxyURL              string

	ClientCertificate string
	ClientKey         string
	// TokenFile stands in for kubectl's --token.
	TokenFile string

	As          string
	AsUID       string
	AsGroups    []string
	AsUserExtra []string // KEY=VALUE

	// RequestTimeout is as kubectl reads it: a number is seconds. Empty means DefaultRequestTimeout,
	// and 0 none.
	RequestTimeout string
}

// Bind adds the flags to a command, with completion of what the kubeconfig names.
func (f *Flags) Bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.Kubeconfig, "kubeconfig", "", "Kubeconfig to use (default $KUBECONFIG, or ~/.kube/config)")
	fs.StringVar(&f.Context, "context", "", "Context of the kubeconfig to use")
	fs.StringVar(&f.Cluster, "cluster", "", "Cluster of the kubeconfig to use")
	fs.StringVar(&f.User, "user", "", "User of the kubeconfig to use")
	fs.StringVarP(&f.Server, "server", "s", "", "Address of the API server")
	fs.StringVar(&f.TLSServerName, "tls-server-name", "", "Name to expect in the API server's certificate")
	fs.StringVar(&f.CertificateAuthority, "certificate-authority", "", "File with the CA of the API server's certificate")
	fs.BoolVar(&f.InsecureSkipTLSVerify, "insecure-skip-tls-verify", false, "Do not check the API server's certificate")
	fs.StringVar(&f.ProxyURL, "proxy-url", "", "Proxy for requests to the API server")
	fs.StringVar(&f.ClientCertificate, "client-certificate", "", "File with a client certificate")
	fs.StringVar(&f.ClientKey, "client-key", "", "File with the client certificate's key")
	fs.StringVar(&f.TokenFile, "token-file", "", "File with a bearer token")
	fs.StringVar(&f.As, "as", "", "User to impersonate")
	fs.StringVar(&f.AsUID, "as-uid", "", "UID to impersonate")
	fs.StringArrayVar(&f.AsGroups, "as-group", nil, "Group to impersonate; may be repeated")
	fs.StringArrayVar(&f.AsUserExtra, "as-user-extra", nil, "Extra of the impersonated user, as KEY=VALUE; may be repeated")
	fs.StringVar(&f.RequestTimeout, "request-timeout", DefaultRequestTimeout.String(), "How long to wait for the answer to a request; 0 for ever")

	for flag, names := range map[string]func() []string{
		"context": f.Contexts,
		"cluster": func() []string { return f.named().clusters },
		"user":    func() []string { return f.named().users },
	} {
		// An error means that the flag is not there, or has a completion already.
		_ = cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return names(), cobra.ShellCompDirectiveNoFileComp
		})
	}
}
