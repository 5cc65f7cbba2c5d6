package openapi

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// remotes is what the newest snapshot says of extension servers. It is
// immutable except for what its documents compute when they are first asked.
type remotes struct {
	// ordered by group priority, then version priority: earlier ones win.
	ordered []*remote
	byKey   map[string]*remote
	// v2ID and v3ID change when, and only when, the respective result may.
	v2ID, v3ID string
	// serial is the number of the newest document.
	serial uint64
}

// remote is one group version of an extension server.
type remote struct {
	name  string
	group string
	// prefix is the path, with a slash at its end, that it owns.
	prefix string
	// key names its OpenAPI v3 document.
	key string
	// v2 and v3 are nil while no document is known.
	v2 *v2Document
	v3 *v3Document
}

func (s *Service) newRemotes(snap *catalog.Snapshot) *remotes {
	previous := s.current.Load()
	out := &remotes{byKey: map[string]*remote{}, serial: previous.serial}
	if snap == nil {
		snap = catalog.Build(catalog.Facts{})
	}
	v2ID, v3ID := sha256.New(), sha256.New()
	for _, a := range inOrder(snap) {
		r := &remote{
			name:   a.Name,
			group:  a.Group,
			prefix: a.Path() + "/",
			key:    strings.TrimPrefix(a.DiscoveryPath(), "/"),
		}
		old := previous.byKey[r.key]
		if old == nil {
			old = &remote{}
		}
		if b := a.Document.OpenAPIV2; len(b.Data) > 0 {
			if r.v2 = old.v2; r.v2 == nil || !same(r.v2.blob, b) {
				out.serial++
				r.v2 = &v2Document{blob: b, serial: out.serial}
			}
			fmt.Fprintf(v2ID, "%q %d\n", r.prefix, r.v2.serial)
		} else {
			fmt.Fprintf(v2ID, "%q\n", r.prefix)
		}
		if b := a.Document.OpenAPIV3; len(b.Data) > 0 {
			if r.v3 = old.v3; r.v3 == nil || !same(r.v3.blob, b) {
				out.serial++
				r.v3 = s.newV3Document(a.Name, b, out.serial)
			}
			fmt.Fprintf(v3ID, "%q %d\n", r.key, r.v3.serial)
		} else {
			fmt.Fprintf(v3ID, "%q\n", r.key)
		}
		out.ordered = append(out.ordered, r)
		out.byKey[r.key] = r
	}
	out.v2ID, out.v3ID = string(v2ID.Sum(nil)), string(v3ID.Sum(nil))
	return out
}

// inOrder lists the remote registrations by priority; the legacy group, which
// is in no list of groups, comes first.
func inOrder(snap *catalog.Snapshot) []*catalog.APIService {
	var out []*catalog.APIService
	for _, a := range snap.Remotes() {
		if a.Group == "" {
			out = append(out, a)
		}
	}
	for _, g := range snap.Groups() {
		for _, a := range g.Versions {
			if !a.Local {
				out = append(out, a)
			}
		}
	}
	return out
}

// same says whether two blobs hold one document. The ETag decides; without one
// the bytes do.
func same(a, b catalog.Blob) bool {
	return a.ETag == b.ETag && (a.ETag != "" || bytes.Equal(a.Data, b.Data))
}

// owns says whether a path belongs to an extension server.
func (rs *remotes) owns(path string) bool {
	for _, r := range rs.ordered {
		if strings.HasPrefix(path, r.prefix) {
			return true
		}
	}
	return false
}
