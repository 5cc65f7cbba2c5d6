package up

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/annex-api/annex/kubeapiserver/certs"
)

// contextName names the cluster, user and context.
const contextName = "annex"

// writeKubeconfigs writes the admin's, with the certificates in it, and the demo server's, which
// names their files, because that process reads it once.
func (o *Options) writeKubeconfigs(f certs.Files) error {
	path, chosen := o.kubeconfig()
	config := api.NewConfig()
	if chosen {
		old, err := existing(path)
		if err != nil {
			return err
		}
		config = old
	}
	cluster, user := api.NewCluster(), api.NewAuthInfo()
	cluster.Server = o.address()
	for file, data := range map[string]*[]byte{
		f.CA.Cert:    &cluster.CertificateAuthorityData,
		f.Admin.Cert: &user.ClientCertificateData,
		f.Admin.Key:  &user.ClientKeyData,
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read %s for the kubeconfig: %w", file, err)
		}
		*data = b
	}
	if err := write(path, config, cluster, user); err != nil {
		return err
	}
	if !o.Demo {
		return nil
	}
	cluster, user = api.NewCluster(), api.NewAuthInfo()
	cluster.Server, cluster.CertificateAuthority = o.address(), f.CA.Cert
	user.ClientCertificate, user.ClientKey = f.Admin.Cert, f.Admin.Key
	return write(o.demoKubeconfig(), api.NewConfig(), cluster, user)
}

func (o *Options) demoKubeconfig() string { return filepath.Join(o.DataDir, "demo.kubeconfig") }

// existing reads a kubeconfig to add to, or returns a new one.
func existing(path string) (*api.Config, error) {
	config, err := clientcmd.LoadFromFile(path)
	switch {
	case os.IsNotExist(err):
		return api.NewConfig(), nil
	case err != nil:
		return nil, fmt.Errorf("kubeconfig %s does not parse (%w); repair it or choose another path with --kubeconfig", path, err)
	}
	return config, nil
}

func write(path string, config *api.Config, cluster *api.Cluster, user *api.AuthInfo) error {
	entry := api.NewContext()
	entry.Cluster, entry.AuthInfo = contextName, contextName
	config.Clusters[contextName], config.AuthInfos[contextName], config.Contexts[contextName] = cluster, user, entry
	config.CurrentContext = contextName
	b, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encode kubeconfig %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder of kubeconfig %s (%w); choose another path with --kubeconfig", path, err)
	}
	return certs.WriteFile(path, b)
}

// shellQuote quotes s for a shell where needed.
func shellQuote(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%,", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
