package e2e

import (
	"os"
	"testing"

	"github.com/annex-api/annex/internal/testcerts"
)

// loadAuthority reads the authority that is kept as path.crt and path.key.
func loadAuthority(path string) (*testcerts.Authority, error) {
	cert, err := os.ReadFile(path + ".crt")
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(path + ".key")
	if err != nil {
		return nil, err
	}
	return testcerts.Load(testcerts.Pair{Cert: cert, Key: key})
}

// writePair issues a pair into dir, as <name>.crt and <name>.key.
func writePair(t *testing.T, ca *testcerts.Authority, dir string, s testcerts.Subject) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile, err := ca.Issue(s).Write(dir, s.Name)
	if err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}
