package fetch

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/document"
)

// Download is how the downloads of one document went. It is no fact of a snapshot: that
// would be built anew for each time.
type Download struct {
	// Fetched is when the document was downloaded, or found unchanged, last; zero for
	// never.
	Fetched time.Time
	// Problem is why the last download failed; empty if it did not.
	Problem string
	// Unmergeable says that the problem is one of the document itself for which clients
	// would refuse the merged one.
	Unmergeable bool
	// Bytes is the size of the document that is kept.
	Bytes int
}

// Downloads are those of one APIService's documents.
type Downloads struct{ Discovery, OpenAPIV2, OpenAPIV3 Download }

// Downloads lists how they went, by APIService name.
func (f *Fetcher) Downloads() map[string]Downloads {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.downloads)
}

// note takes note of how a download ended, and tells if it has ended otherwise than the
// one before.
func (f *Fetcher) note(loop context.Context, a *catalog.APIService, of func(*Downloads) *Download, err error) {
	f.mu.Lock()
	if loop.Err() != nil || f.leadsElsewhere(a) {
		f.mu.Unlock()
		return
	}
	all := f.downloads[a.Name]
	d := of(&all)
	before := d.Problem
	if d.Problem = backend.ErrorText(err); err == nil {
		d.Fetched = time.Now()
	}
	d.Unmergeable = errors.As(err, new(document.Unmergeable))
	f.downloads[a.Name] = all
	f.mu.Unlock()
	if d.Problem != before {
		f.noted()
	}
}

func discoveryOf(d *Downloads) *Download { return &d.Discovery }

// measure takes note of the sizes of documents that have changed; f.mu is held.
func (f *Fetcher) measure(name string, before, after catalog.Document) {
	all := f.downloads[name]
	if !sameResources(before, after) {
		all.Discovery.Bytes = 0
		if after.Discovery != nil {
			all.Discovery.Bytes = after.Discovery.Size()
		}
	}
	all.OpenAPIV2.Bytes, all.OpenAPIV3.Bytes = len(after.OpenAPIV2.Data), len(after.OpenAPIV3.Data)
	f.downloads[name] = all
}

// noteOpenAPI takes note of how both versions were downloaded, or made of each other, for
// each member; v2 was not asked for where askedV2 is false.
func (f *Fetcher) noteOpenAPI(loop context.Context, members []*catalog.APIService, state *openAPIState, askedV2 bool, v2, v3 error) {
	ofV2 := func(d *Downloads) *Download { return &d.OpenAPIV2 }
	ofV3 := func(d *Downloads) *Download { return &d.OpenAPIV3 }
	for _, a := range members {
		own2, own3 := problemOf(a.Name, v2), problemOf(a.Name, v3)
		switch {
		case state.noV3: // it is made of v2
			if askedV2 {
				f.note(loop, a, ofV2, own2)
				f.note(loop, a, ofV3, problemLike(a.Name, v2, mergeable))
			}
			continue
		case state.noV2: // it is made of v3
			f.note(loop, a, ofV2, cmp.Or(own3, own2, state.unmade[a.Name]))
		case askedV2:
			f.note(loop, a, ofV2, own2)
		}
		f.note(loop, a, ofV3, own3)
	}
}

// ofMember is a problem with what a server's documents say of one APIService.
type ofMember struct {
	name string
	error
}

func (m ofMember) Unwrap() error { return m.error }

// problemOf is what of an error concerns an APIService: its own problems, and those with
// documents as a whole.
func problemOf(name string, err error) error {
	return problemLike(name, err, func(error) bool { return true })
}

// problemLike is problemOf for problems of a kind.
func problemLike(name string, err error, kind func(error) bool) error {
	switch e := err.(type) {
	case ofMember:
		if e.name != name {
			return nil
		}
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			if p := problemLike(name, part, kind); p != nil {
				return p
			}
		}
		return nil
	}
	if err == nil || !kind(err) {
		return nil
	}
	return err
}

// mergeable leaves out what only matters where documents are merged.
func mergeable(err error) bool { return !errors.As(err, new(document.Unmergeable)) }
