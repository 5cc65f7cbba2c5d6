package extension

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const folderMode = 0o700

// prepareFolder makes or reads what a standalone program keeps in its folder: the token
// of its administrator, and its certificates.
func (o *options) prepareFolder(c *Config) error {
	if err := os.MkdirAll(o.standalone, folderMode); err != nil {
		return fmt.Errorf("make the folder of a standalone server: %w", err)
	}
	token, err := o.token()
	if err != nil {
		return err
	}
	c.Standalone = &Standalone{Tokens: map[string]Caller{token: {Name: "admin", Groups: []string{"admin"}}}}
	if c.Serving.CertFile == "" && c.Serving.Folder == "" {
		c.Serving.Folder = filepath.Join(o.standalone, "tls")
	}
	c.Serving.Hosts = append(c.Serving.Hosts, o.address)
	return nil
}

// token reads the administrator's token, or makes one. Of two programs that make one at a
// time, the first one's is taken: no file of this name is there before it is whole.
func (o *options) token() (string, error) {
	path := filepath.Join(o.standalone, "token")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := o.makeToken(path); err != nil {
			return "", fmt.Errorf("keep the administrator's token: %w", err)
		}
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return "", fmt.Errorf("read the administrator's token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if len(token) < minToken {
		return "", fmt.Errorf("the token in %s has fewer than %d bytes: remove the file, and one is made", path, minToken)
	}
	return token, nil
}

// makeToken writes a token to a file that is not there yet; one that is there stays.
func (o *options) makeToken(path string) error {
	temporary, err := os.CreateTemp(o.standalone, ".token-*") // it has mode 0600
	if err != nil {
		return err
	}
	_, err = temporary.WriteString(rand.Text() + "\n")
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		if err = os.Link(temporary.Name(), path); errors.Is(err, fs.ErrExist) {
			err = nil // another program was faster
		}
	}
	return errors.Join(err, os.Remove(temporary.Name()))
}

// writeKubeconfig leaves a kubeconfig of the administrator in the folder.
func (o *options) writeKubeconfig(c Config, s *Server) error {
	var token string
	for t := range c.Standalone.Tokens {
		token = t
	}
	tcp, ok := s.Address().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("the server listens on %v, which has no port", s.Address())
	}
	config := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{c.Name: {Server: "https://" + tcp.String(), CertificateAuthorityData: s.bundle()}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"admin": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{c.Name: {Cluster: c.Name, AuthInfo: "admin"}},
		CurrentContext: c.Name,
	}
	data, err := clientcmd.Write(config)
	if err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	path := filepath.Join(o.standalone, "kubeconfig")
	temporary, err := os.CreateTemp(o.standalone, ".kubeconfig-*") // it has mode 0600
	if err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	_, err = temporary.Write(data)
	if err := errors.Join(err, temporary.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the kubeconfig: %w", err), os.Remove(temporary.Name()))
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return errors.Join(fmt.Errorf("write the kubeconfig: %w", err), os.Remove(temporary.Name()))
	}
	c.Log.Info("A kubeconfig of the administrator is there", "path", path)
	return nil
}

// bundle are the CAs that clients know the server by; nil if it does not know itself.
func (s *Server) bundle() []byte {
	if s.certificate == nil {
		return nil
	}
	pem, _ := s.certificate.Bundle()
	return pem
}
