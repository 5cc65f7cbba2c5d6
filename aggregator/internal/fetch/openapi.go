package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/kube-openapi/pkg/handler3"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/document"
)

// absentAgain is how long a version of OpenAPI that a server does not have is
// not asked for again, while nothing hints at a change.
const absentAgain = time.Hour

// unusable is what is wrong with a document itself, as opposed to a failed download.
type unusable struct{ error }

func (u unusable) Unwrap() error { return u.error }

// openAPIState belongs to one server's OpenAPI loop.
type openAPIState struct {
	v2ETag string // the server's own
	v2Sum  string // of the bytes, for servers without ETags
	// v2Problem is what is wrong with the document of v2Sum, which is not read again.
	v2Problem error
	v3ETag    string            // of a list whose documents are all known, each by a URL that names its content
	v3URL     map[string]string // by APIService name: the URL last downloaded
	noV3      bool              // the server has v2 only
	noV2      bool              // the server has no v2
	saidNoV2  bool              // and that was logged
	madeOf    map[string]string // by APIService name: the ETag of the v3 that its v2 was made of
	unmade    map[string]error  // by APIService name: why no v2 could be made of that
	v2Asked   time.Time         // when v2 was last downloaded or found unchanged
	problem   string            // what was last logged; empty while all is well
}

// forOtherMembers is the state after a member came or went: everything is downloaded
// anew, and what was logged is not said again.
func (s openAPIState) forOtherMembers() openAPIState {
	return openAPIState{noV2: s.noV2, saidNoV2: s.saidNoV2, problem: s.problem}
}

// openAPI downloads both versions for all members and reports whether that
// succeeded. What fails keeps its last good documents. Servers make v2 and v3 of
// the same types: while v3 has not changed, and nothing else hints at a change, v2
// is asked for only every OpenAPIMax. Of a server without v2 it is made from v3, and
// asked for again when something hints at a change, or after absentAgain.
func (f *Fetcher) openAPI(loop context.Context, members []*catalog.APIService, state *openAPIState, hinted bool) bool {
	ctx, cancel := context.WithTimeout(loop, f.timing.OpenAPITimeout)
	defer cancel()
	if state.v3URL == nil {
		state.v3URL = map[string]string{}
	}
	unchanged, v3 := f.openAPIV3(ctx, loop, members, state)
	if unchanged && !hinted && time.Since(state.v2Asked) < f.timing.OpenAPIMax {
		f.noteOpenAPI(loop, members, state, false, nil, v3)
		return true
	}
	var v2 error
	asksV2 := !state.noV2 || state.noV3 || hinted || time.Since(state.v2Asked) >= absentAgain
	if asksV2 {
		v2 = f.openAPIV2(ctx, loop, members, state)
		state.v2Asked = time.Time{}
		if v2 == nil {
			state.v2Asked = time.Now()
		}
		if v3 == nil && state.saidNoV2 != state.noV2 && !state.noV3 {
			state.saidNoV2 = state.noV2
			f.logf("The extension server behind APIService %s has %s", members[0].Name,
				map[bool]string{true: "no OpenAPI v2: it is made from its v3", false: "an OpenAPI v2 of its own now"}[state.noV2])
		}
	}
	if state.noV2 && !state.noV3 {
		v2 = errors.Join(v2, f.makeV2(ctx, loop, members, state))
	}
	f.noteOpenAPI(loop, members, state, asksV2, v2, v3)
	problem := errors.Join(v3, v2)
	f.logProblem(loop, members, state, problem)
	return problem == nil
}

// logProblem logs what is wrong with a server's documents when that changes. That a
// server cannot be reached is reported by its probes.
func (f *Fetcher) logProblem(loop context.Context, members []*catalog.APIService, state *openAPIState, problem error) {
	said := ""
	if bad := (unusable{}); errors.As(problem, &bad) && loop.Err() == nil {
		said = backend.ErrorText(problem)
	}
	if said == "" && problem != nil {
		return // a download that failed does not tell
	}
	if said != "" && said != state.problem {
		f.logf("OpenAPI of the extension server behind APIService %s cannot be used, its last good documents stay: %s", members[0].Name, said)
	}
	state.problem = said
}

// lacks says whether a server that answers so has no such document, or none for this
// server: to ask again soon brings nothing else.
func lacks(statusCode int) bool {
	switch statusCode {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	case http.StatusNotImplemented:
		return true
	}
	return statusCode >= http.StatusBadRequest && statusCode < http.StatusInternalServerError
}

// gone says whether an answer that lacks tells of the document. Others tell of the asker,
// and may do so for a while: what is known stays.
func gone(statusCode int) bool {
	switch statusCode {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, http.StatusNotImplemented:
		return true
	}
	return false
}

func (f *Fetcher) openAPIV2(ctx, loop context.Context, members []*catalog.APIService, state *openAPIState) error {
	b := f.backends.Get(members[0])
	reply, err := f.get(ctx, b, members[0].Target, backend.Call{
		As: backend.OpenAPIAggregator, Path: "/openapi/v2", Accept: "application/json", IfNoneMatch: state.v2ETag, Limit: maxOpenAPIV2,
	})
	switch {
	case err != nil:
		return err
	case reply.StatusCode == http.StatusNotModified && state.v2ETag != "":
		return state.v2Problem
	}
	switch {
	case lacks(reply.StatusCode):
		state.noV2 = true
		state.v2ETag, state.v2Sum, state.v2Problem = "", "", nil
		if state.noV3 && gone(reply.StatusCode) {
			for _, a := range members {
				f.update(loop, a, func(d *catalog.Document) { d.OpenAPIV2, d.OpenAPIV3 = catalog.Blob{}, catalog.Blob{} })
			}
		}
		return nil
	case reply.StatusCode != http.StatusOK:
		return fmt.Errorf("downloading /openapi/v2: status code %d", reply.StatusCode)
	}
	state.noV2, state.madeOf, state.unmade = false, nil, nil
	sum := digest(reply.Body)
	if sum != state.v2Sum {
		problem := f.updateOpenAPIV2(ctx, loop, reply.Body, members, state.noV3)
		if ctx.Err() != nil {
			return problem // to be tried again
		}
		state.v2Sum, state.v2Problem = sum, problem
	}
	state.v2ETag = reply.ETag
	return state.v2Problem
}

// updateOpenAPIV2 takes over each member's part of a document. A part that cannot be
// used does not hold up the others.
func (f *Fetcher) updateOpenAPIV2(ctx, loop context.Context, data []byte, members []*catalog.APIService, alsoV3 bool) error {
	if err := f.decoding.Take(ctx); err != nil {
		return fmt.Errorf("reading /openapi/v2: %w", err)
	}
	defer f.decoding.End()
	whole, err := document.ReadV2(data)
	if err != nil {
		return unusable{fmt.Errorf("reading /openapi/v2: %w", err)}
	}
	var problems []error
	for _, a := range members {
		own, err := document.Guarded(func() (v2Part, error) { return readV2(ctx, whole, a, alsoV3) })
		if err != nil {
			own.problems = append(own.problems, err)
		}
		for _, err := range own.problems {
			problems = append(problems, ofMember{a.Name, unusable{fmt.Errorf("reading the OpenAPI v2 of %s: %w", a.Name, err)}})
		}
		if len(own.v2.Data) == 0 && len(own.v3.Data) == 0 {
			continue
		}
		f.update(loop, a, func(d *catalog.Document) {
			if len(own.v2.Data) > 0 {
				d.OpenAPIV2 = own.v2
			}
			if len(own.v3.Data) > 0 {
				d.OpenAPIV3 = own.v3
			}
		})
	}
	return errors.Join(problems...)
}

// makeV2 makes the version 2 of each member from its version 3, where that has
// changed.
func (f *Fetcher) makeV2(ctx, loop context.Context, members []*catalog.APIService, state *openAPIState) error {
	if state.madeOf == nil {
		state.madeOf, state.unmade = map[string]string{}, map[string]error{}
	}
	var problems []error
	for i, d := range f.known(members) {
		name, v3 := members[i].Name, d.OpenAPIV3
		if made, found := state.madeOf[name]; found && made == v3.ETag {
			continue
		}
		v2, err := f.v2Of(ctx, v3, members[i])
		if ctx.Err() != nil {
			return errors.Join(append(problems, err)...) // to be tried again
		}
		state.madeOf[name], state.unmade[name] = v3.ETag, nil
		if err != nil {
			state.unmade[name] = ofMember{name, unusable{fmt.Errorf("making the OpenAPI v2 of %s from its v3: %w", name, err)}}
			problems = append(problems, state.unmade[name])
			continue
		}
		f.update(loop, members[i], func(d *catalog.Document) { d.OpenAPIV2 = v2 })
	}
	return errors.Join(problems...)
}

// v2Of is the version 2 of a document of version 3; none where there is none.
func (f *Fetcher) v2Of(ctx context.Context, v3 catalog.Blob, a *catalog.APIService) (catalog.Blob, error) {
	if len(v3.Data) == 0 {
		return catalog.Blob{}, nil
	}
	if err := f.decoding.Take(ctx); err != nil {
		return catalog.Blob{}, err
	}
	defer f.decoding.End()
	return document.Guarded(func() (catalog.Blob, error) {
		data, err := document.V2FromV3(ctx, v3.Data)
		if err != nil {
			return catalog.Blob{}, err
		}
		whole, err := document.ReadV2(data)
		if err != nil {
			return catalog.Blob{}, err
		}
		part, err := readV2(ctx, whole, a, false)
		return part.v2, errors.Join(append(part.problems, err)...)
	})
}

// openAPIV3 downloads what has changed of v3; unchanged says that nothing has.
func (f *Fetcher) openAPIV3(ctx, loop context.Context, members []*catalog.APIService, state *openAPIState) (unchanged bool, err error) {
	b := f.backends.Get(members[0])
	reply, err := f.get(ctx, b, members[0].Target, backend.Call{
		As: backend.OpenAPIAggregator, Path: "/openapi/v3", Accept: "application/json", IfNoneMatch: state.v3ETag, Limit: maxOpenAPIRoot,
	})
	switch {
	case err != nil:
		return false, err
	case reply.StatusCode == http.StatusNotModified && state.v3ETag != "":
		return true, nil
	}
	state.v3ETag = ""
	switch {
	case lacks(reply.StatusCode):
		if !state.noV3 {
			state.noV3, state.v2ETag, state.v2Sum = true, "", "" // convert v2 anew
			clear(state.v3URL)                                   // and download v3 anew when it is back
			return false, nil
		}
		return state.noV2, nil // only v2 may have changed, where there is one
	case reply.StatusCode != http.StatusOK:
		return false, fmt.Errorf("downloading /openapi/v3: status code %d", reply.StatusCode)
	}
	root := handler3.OpenAPIV3Discovery{}
	if err := json.Unmarshal(reply.Body, &root); err != nil {
		return false, fmt.Errorf("reading /openapi/v3: %w", err)
	}
	if root.Paths == nil {
		return false, errors.New("reading /openapi/v3: the field paths is missing")
	}
	state.noV3 = false
	var failure error
	named := true
	for _, a := range members {
		item, ok := root.Paths[strings.TrimPrefix(a.Path(), "/")]
		if !ok {
			delete(state.v3URL, a.Name)
			f.update(loop, a, func(d *catalog.Document) { d.OpenAPIV3 = catalog.Blob{} })
			continue
		}
		if err := f.openAPIV3Of(ctx, loop, b, a, item.ServerRelativeURL, state); err != nil {
			failure = errors.Join(failure, ofMember{a.Name, err})
		}
		named = named && namesContent(item.ServerRelativeURL)
	}
	if named && failure == nil {
		state.v3ETag = reply.ETag
	}
	return false, failure
}

// namesContent says whether the URL of a document changes with its content.
func namesContent(relative string) bool {
	u, err := url.Parse(relative)
	return err == nil && u.Query().Get("hash") != ""
}

// openAPIV3Of downloads one group version's document. A URL with a hash names
// its content: one that was downloaded already is not asked for again.
func (f *Fetcher) openAPIV3Of(ctx, loop context.Context, b *backend.Backend, a *catalog.APIService, relative string, state *openAPIState) error {
	u, err := url.Parse(relative)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/openapi/v3/") || strings.Contains(u.Path, "..") {
		return fmt.Errorf("/openapi/v3 lists the URL %q for %s, which is not below /openapi/v3/", relative, a.Name)
	}
	if namesContent(relative) && state.v3URL[a.Name] == relative {
		return nil
	}
	reply, err := f.get(ctx, b, a.Target, backend.Call{
		As: backend.OpenAPIAggregator, Path: u.RequestURI(), Accept: "application/json", Limit: maxOpenAPIV3,
	})
	if err != nil {
		return err
	}
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("downloading %s: status code %d", u.Path, reply.StatusCode)
	}
	own, err := f.readV3(ctx, reply.Body, a)
	if err != nil {
		return unusable{fmt.Errorf("reading %s: %w", u.Path, err)}
	}
	state.v3URL[a.Name] = relative
	f.update(loop, a, func(d *catalog.Document) { d.OpenAPIV3 = catalog.Blob{ETag: digest(own), Data: own} })
	return nil
}

// readV3 returns what a version 3 document says of a group version.
func (f *Fetcher) readV3(ctx context.Context, data []byte, a *catalog.APIService) ([]byte, error) {
	if err := f.decoding.Take(ctx); err != nil {
		return nil, err
	}
	defer f.decoding.End()
	whole, err := document.ReadV3(data)
	if err != nil {
		return nil, err
	}
	return whole.Below(ctx, a.Path())
}

func blobOf(v any) (catalog.Blob, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return catalog.Blob{}, err
	}
	return catalog.Blob{ETag: digest(data), Data: data}, nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}
