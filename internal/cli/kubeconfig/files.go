package kubeconfig

import (
	"os"

	"k8s.io/client-go/tools/clientcmd/api"
)

// maxFile bounds kubeconfigs and the files that they name.
const maxFile = 32 << 20

// readable refuses files that are no part of a configuration, and that reading would not come to the end
// of. Those that are not there, or may not be read, are left to who reads them.
func readable(names ...string) error {
	for _, name := range names {
		info, err := os.Stat(name)
		switch {
		case name == "" || name == os.DevNull || err != nil:
		case info.Mode()&os.ModeDevice != 0:
			return failed(nil, "%s is a device, and no file of a configuration; name another", shown(name))
		case info.Mode().IsRegular() && info.Size() > maxFile:
			return failed(nil, "%s is larger than %d MiB, and no file of a configuration; name another", shown(name), maxFile>>20)
		}
	}
	return nil
}

// filesOf are the files that the flags and what is chosen of a kubeconfig name.
func (f *Flags) filesOf(raw *api.Config) []string {
	files := []string{f.CertificateAuthority, f.ClientCertificate, f.ClientKey, f.TokenFile}
	context, user := f.chosen(raw)
	cluster := f.Cluster
	if c := raw.Contexts[context]; c != nil {
		cluster = first(cluster, c.Cluster)
	}
	if c := raw.Clusters[cluster]; c != nil {
		files = append(files, c.CertificateAuthority)
	}
	if u := raw.AuthInfos[user]; u != nil {
		files = append(files, u.ClientCertificate, u.ClientKey, u.TokenFile)
	}
	return files
}
