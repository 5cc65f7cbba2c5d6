// Package certs keeps the keys and certificates of one server in a directory.
//
// Every key is made once and stays; to renew a certificate is to replace its one file. So no crash
// leaves a key beside another key's certificate, and a renewed CA vouches for what the old one signed.
package certs

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// CALife and LeafLife are how long certificates are valid; they are renewed after two thirds.
	CALife   = 10 * 365 * 24 * time.Hour
	LeafLife = 365 * 24 * time.Hour
	// backdate lets clients with a slow clock accept a new certificate.
	backdate = 5 * time.Minute
)

// Options of a store.
type Options struct {
	// Dir holds the files; it is made with mode 0700 where needed.
	Dir string
	// Hosts are names and addresses of the server beside its usual ones.
	Hosts []string
	// ServiceIP is the cluster IP of Service default/kubernetes; nil means 10.96.0.1.
	ServiceIP net.IP
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Pair names a certificate's file and its key's.
type Pair struct{ Cert, Key string }

// Files are the absolute paths that a server is started with.
type Files struct {
	CA                Pair // signs server and client certificates
	Server            Pair
	Admin             Pair // client, group system:masters
	FrontProxyCA      Pair
	FrontProxyClient  Pair // CN front-proxy-client
	ServiceAccountKey string
	ServiceAccountPub string
}

// Paths returns the files of a store in dir, an absolute path, whether or not they exist.
func Paths(dir string) Files {
	s := Store{dir: dir}
	return Files{
		CA: s.pair(ca), Server: s.pair(server), Admin: s.pair(admin),
		FrontProxyCA: s.pair(frontProxyCA), FrontProxyClient: s.pair(frontProxyClient),
		ServiceAccountKey: filepath.Join(dir, "sa.key"), ServiceAccountPub: filepath.Join(dir, "sa.pub"),
	}
}

// Store is an open directory of certificates. It is safe for concurrent use.
type Store struct {
	dir   string
	now   func() time.Time
	files Files

	mu    sync.Mutex // serialises changes of the files
	specs []spec     // signers before what they sign
}

// Open makes what is missing, checks what is there, and renews what is due. An error names the file
// and the remedy, and leaves every existing file as it was.
func Open(o Options) (*Store, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the absolute path of certificate directory %q: %w", o.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificate directory %s cannot be made (%w); check its owner and the disk", dir, err)
	}
	now := o.Now
	if now == nil {
		now = time.Now
	}
	s := &Store{dir: dir, now: now, files: Paths(dir), specs: specs(o)}
	if _, err := s.Renew(); err != nil {
		return nil, err
	}
	if err := s.serviceAccount(); err != nil {
		return nil, err
	}
	return s, nil
}

// Files returns the paths.
func (s *Store) Files() Files { return s.files }

// Serving returns a serving certificate for hosts, signed by the CA, and renews it from then on.
// name, without extension, names its files.
func (s *Store) Serving(name string, hosts ...string) (Pair, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.specs, func(sp spec) bool { return sp.name == name }) {
		return Pair{}, fmt.Errorf("make serving certificate %s: the name is taken", name)
	}
	sp := spec{name: name, signer: ca, commonName: hosts[0], use: x509.ExtKeyUsageServerAuth}
	sp.addHosts(hosts)
	signer, _, err := s.load(ca)
	if err != nil {
		return Pair{}, err
	}
	if _, _, err := s.ensure(sp, signer); err != nil {
		return Pair{}, err
	}
	s.specs = append(s.specs, sp)
	return s.pair(name), nil
}

// Renew renews what is due, and returns the paths of the certificates that it wrote.
func (s *Store) Renew() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var written []string
	signers := map[string]authority{}
	for _, sp := range s.specs {
		a, wrote, err := s.ensure(sp, signers[sp.signer])
		if err != nil {
			return written, err
		}
		signers[sp.name] = a
		if wrote {
			written = append(written, s.pair(sp.name).Cert)
		}
	}
	return written, nil
}

// authority is a certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// ensure makes or renews one certificate where needed. The zero signer means self-signed.
func (s *Store) ensure(sp spec, signer authority) (authority, bool, error) {
	p := s.pair(sp.name)
	a, found, err := s.load(sp.name)
	if err != nil {
		return authority{}, false, err
	}
	if a.key == nil {
		if a.key, err = newKey(p.Key); err != nil {
			return authority{}, false, err
		}
	}
	now := s.now()
	if found {
		if err := s.check(sp, a, signer, now); err != nil {
			return authority{}, false, err
		}
		if now.Before(renewAt(a.cert)) && sp.covers(a.cert) {
			return a, false, nil
		}
	}
	if a.cert, err = sp.issue(p.Cert, a.key, signer, now); err != nil {
		return authority{}, false, err
	}
	return a, true, nil
}

// check refuses a certificate that renewing would not put right.
func (s *Store) check(sp spec, a, signer authority, now time.Time) error {
	file := s.pair(sp.name).Cert
	if now.Before(a.cert.NotBefore) {
		return &ClockError{File: file, Now: now, NotBefore: a.cert.NotBefore}
	}
	if sp.signer == "" {
		if !a.cert.IsCA {
			return fmt.Errorf("certificate %s is not a CA's; restore it, or remove %s to have every certificate made anew", file, s.dir)
		}
		return nil
	}
	if err := a.cert.CheckSignatureFrom(signer.cert); err != nil {
		return fmt.Errorf("certificate %s was not signed by %s (%w); restore the CA's files, or remove %s to have it signed anew",
			file, s.pair(sp.signer).Cert, err, file)
	}
	return nil
}

// load reads a pair. found says that the certificate exists; the key may exist without it, as a
// first start that was killed leaves it, but not the other way round.
func (s *Store) load(name string) (a authority, found bool, err error) {
	p := s.pair(name)
	a.key, err = readKey(p.Key)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return authority{}, false, err
	}
	noKey := err != nil
	a.cert, err = readCert(p.Cert)
	if errors.Is(err, os.ErrNotExist) {
		return a, false, nil
	}
	if err != nil {
		return authority{}, false, err
	}
	if noKey {
		return authority{}, false, fmt.Errorf("key %s is missing beside its certificate; restore it, or remove %s to have both made anew", p.Key, p.Cert)
	}
	if !a.key.PublicKey.Equal(a.cert.PublicKey) {
		return authority{}, false, fmt.Errorf("key %s does not belong to certificate %s; restore the right one, or remove the certificate to have it made anew", p.Key, p.Cert)
	}
	return a, true, nil
}

func (s *Store) serviceAccount() error {
	key, err := readKey(s.files.ServiceAccountKey)
	if errors.Is(err, os.ErrNotExist) {
		key, err = newKey(s.files.ServiceAccountKey)
	}
	if err != nil {
		return err
	}
	pub, err := encodePublic(&key.PublicKey)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(s.files.ServiceAccountPub); err == nil && string(old) == string(pub) {
		return nil
	}
	return WriteFile(s.files.ServiceAccountPub, pub)
}

func (s *Store) pair(name string) Pair {
	return Pair{Cert: filepath.Join(s.dir, name+".crt"), Key: filepath.Join(s.dir, name+".key")}
}

// renewAt is two thirds into the certificate's life.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)
}

// ClockError says that the clock is before a certificate's start.
type ClockError struct {
	File           string
	Now, NotBefore time.Time
}

func (e *ClockError) Error() string {
	return fmt.Sprintf("the system clock says %s, before certificate %s starts at %s; set the clock right, or remove the certificate if it was made under a wrong clock",
		e.Now.UTC().Format(time.RFC3339), e.File, e.NotBefore.UTC().Format(time.RFC3339))
}
