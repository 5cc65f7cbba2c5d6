package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	openAPIUser = "system:aggregator"
	// maxNesting of an OpenAPI document. Those of Kubernetes have some 30 levels.
	maxNesting = 500
	// maxOpenAPIValues and maxDiscoveryValues bound the objects and arrays of a
	// document. All of kube-apiserver's own OpenAPI has fewer than 100,000.
	maxOpenAPIValues   = 200_000
	maxDiscoveryValues = 100_000
)

// openAPIState belongs to one server's OpenAPI loop.
type openAPIState struct {
	v2ETag  string            // the server's own
	v2Sum   string            // of the bytes, for servers without ETags
	v3ETag  string            // of a list whose documents are all known, each by a URL that names its content
	v3URL   map[string]string // by APIService name: the URL last downloaded
	noV3    bool              // the server has v2 only
	noV2    bool              // it has no v2 either
	v2Asked time.Time         // when v2 was last downloaded or found unchanged
}

// openAPI downloads both versions for all members and reports whether that
// succeeded. What fails keeps its last good documents. While nothing gives rise
// to doubt and v3 has not changed, v2, which servers make of the same types, is
// asked for only every OpenAPIMax.
func (f *Fetcher) openAPI(loop context.Context, members []*catalog.APIService, state *openAPIState, doubted bool) bool {
	ctx, cancel := context.WithTimeout(loop, f.timing.OpenAPITimeout)
	defer cancel()
	if state.v3URL == nil {
		state.v3URL = map[string]string{}
	}
	unchanged, v3 := f.openAPIV3(ctx, loop, members, state)
	if unchanged && !doubted && time.Since(state.v2Asked) < f.timing.OpenAPIMax {
		return true
	}
	v2 := f.openAPIV2(ctx, loop, members, state)
	state.v2Asked = time.Time{}
	if v2 == nil {
		state.v2Asked = time.Now()
	}
	return v2 == nil && v3 == nil
}

func (f *Fetcher) openAPIV2(ctx, loop context.Context, members []*catalog.APIService, state *openAPIState) error {
	b := f.backends.Get(members[0])
	reply, err := f.get(ctx, b, members[0].Target, backend.Call{
		Path: "/openapi/v2", Accept: "application/json", IfNoneMatch: state.v2ETag, User: openAPIUser, Limit: maxOpenAPIV2,
	})
	switch {
	case err != nil:
		return err
	case reply.StatusCode == http.StatusNotModified && state.v2ETag != "":
		return nil
	}
	state.noV2 = reply.StatusCode == http.StatusNotFound
	switch {
	case state.noV2:
		state.v2ETag, state.v2Sum = "", ""
		for _, a := range members {
			f.learn(loop, a.Name, func(d *catalog.Document) {
				d.OpenAPIV2 = catalog.Blob{}
				if state.noV3 {
					d.OpenAPIV3 = catalog.Blob{}
				}
			})
		}
		return nil
	case reply.StatusCode != http.StatusOK:
		return fmt.Errorf("downloading /openapi/v2: status code %d", reply.StatusCode)
	}
	sum := digest(reply.Body)
	if sum == state.v2Sum {
		state.v2ETag = reply.ETag
		return nil
	}
	if err := wellFormed(reply.Body, maxOpenAPIValues); err != nil {
		return fmt.Errorf("reading /openapi/v2: %w", err)
	}
	f.parsing.Lock()
	defer f.parsing.Unlock()
	whole := &spec.Swagger{}
	if err := whole.UnmarshalJSON(reply.Body); err != nil {
		return fmt.Errorf("reading /openapi/v2: %w", err)
	}
	if whole.Swagger == "" && whole.Paths == nil {
		return errors.New("reading /openapi/v2: the fields swagger and paths are missing")
	}
	for _, a := range members {
		own := aggregator.FilterSpecByPathsWithoutSideEffects(whole, []string{a.Path() + "/"})
		if own.Paths != nil {
			maps.DeleteFunc(own.Paths.Paths, func(path string, _ spec.PathItem) bool { return !below(path, a.Path()) })
		}
		if err := keepReferred(own); err != nil {
			return fmt.Errorf("reading the OpenAPI v2 of %s: %w", a.Name, err)
		}
		v2, err := blobOf(own)
		if err != nil {
			return fmt.Errorf("writing the OpenAPI v2 of %s: %w", a.Name, err)
		}
		v3 := catalog.Blob{}
		if state.noV3 {
			if v3, err = blobOf(openapiconv.ConvertV2ToV3(own)); err != nil {
				return fmt.Errorf("converting the OpenAPI v2 of %s: %w", a.Name, err)
			}
		}
		f.learn(loop, a.Name, func(d *catalog.Document) {
			d.OpenAPIV2 = v2
			if state.noV3 {
				d.OpenAPIV3 = v3
			}
		})
	}
	state.v2ETag, state.v2Sum = reply.ETag, sum
	return nil
}

// openAPIV3 downloads what has changed of v3; unchanged says that nothing has.
func (f *Fetcher) openAPIV3(ctx, loop context.Context, members []*catalog.APIService, state *openAPIState) (unchanged bool, err error) {
	b := f.backends.Get(members[0])
	reply, err := f.get(ctx, b, members[0].Target, backend.Call{
		Path: "/openapi/v3", Accept: "application/json", IfNoneMatch: state.v3ETag, User: openAPIUser, Limit: maxOpenAPIRoot,
	})
	switch {
	case err != nil:
		return false, err
	case reply.StatusCode == http.StatusNotModified && state.v3ETag != "":
		return true, nil
	}
	state.v3ETag = ""
	switch {
	case reply.StatusCode == http.StatusNotFound:
		if !state.noV3 {
			state.noV3, state.v2ETag, state.v2Sum = true, "", "" // convert v2 anew
			return false, nil
		}
		return state.noV2, nil // where there is v2 alone, it is what may change
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
			f.learn(loop, a.Name, func(d *catalog.Document) { d.OpenAPIV3 = catalog.Blob{} })
			continue
		}
		if err := f.openAPIV3Of(ctx, loop, b, a, item.ServerRelativeURL, state); err != nil {
			failure = err
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
		Path: u.RequestURI(), Accept: "application/json", User: openAPIUser, Limit: maxOpenAPIV3,
	})
	if err != nil {
		return err
	}
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("downloading %s: status code %d", u.Path, reply.StatusCode)
	}
	own, err := confineV3(reply.Body, a.Path())
	if err != nil {
		return fmt.Errorf("reading %s: %w", u.Path, err)
	}
	state.v3URL[a.Name] = relative
	f.learn(loop, a.Name, func(d *catalog.Document) { d.OpenAPIV3 = catalog.Blob{ETag: digest(own), Data: own} })
	return nil
}

// below says whether a path of an OpenAPI document is prefix or lies below it.
// One that leaves it by dot segments does not.
func below(p, prefix string) bool {
	clean := path.Clean(p)
	return clean == strings.TrimSuffix(p, "/") && (clean == prefix || strings.HasPrefix(clean, prefix+"/"))
}

var reference = regexp.MustCompile(`"#/definitions/([^"]+)"`)

// keepReferred removes the definitions that no path of the document needs: they
// would be published under the names of others' types.
func keepReferred(document *spec.Swagger) error {
	needed := spec.Definitions{}
	var need func(v any) error
	need = func(v any) error {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		for _, match := range reference.FindAllSubmatch(data, -1) {
			var name string
			if err := json.Unmarshal(slices.Concat([]byte{'"'}, match[1], []byte{'"'}), &name); err != nil {
				return err
			}
			name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
			definition, ok := document.Definitions[name]
			if _, known := needed[name]; known || !ok {
				continue
			}
			needed[name] = definition
			if err := need(definition); err != nil {
				return err
			}
		}
		return nil
	}
	for _, part := range []any{document.Paths, document.Parameters, document.Responses} {
		if err := need(part); err != nil {
			return err
		}
	}
	document.Definitions = needed
	return nil
}

// wellFormed refuses what is not JSON, is nested too deeply, or holds too many
// objects and arrays: decoders recurse without a bound of their own, and a value
// of two bytes takes a thousand times that when it is decoded.
func wellFormed(data []byte, maxValues int) error {
	depth, values, quoted := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			if depth++; depth > maxNesting {
				return fmt.Errorf("nested more than %d levels deep", maxNesting)
			}
			if values++; values > maxValues {
				return fmt.Errorf("more than %d objects and arrays", maxValues)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	if !json.Valid(data) {
		return errors.New("not JSON")
	}
	return nil
}

// confineV3 removes the paths of an OpenAPI v3 document that are not below
// prefix.
func confineV3(document []byte, prefix string) ([]byte, error) {
	if err := wellFormed(document, maxOpenAPIValues); err != nil {
		return nil, err
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(document, &whole); err != nil {
		return nil, err
	}
	if whole["openapi"] == nil {
		return nil, fmt.Errorf("the field openapi is missing")
	}
	paths := map[string]json.RawMessage{}
	if raw := whole["paths"]; raw != nil {
		if err := json.Unmarshal(raw, &paths); err != nil {
			return nil, fmt.Errorf("paths: %w", err)
		}
	}
	maps.DeleteFunc(paths, func(p string, _ json.RawMessage) bool { return !below(p, prefix) })
	// Written anew even where nothing was removed: a field that stands twice is
	// read differently by different clients.
	kept, err := json.Marshal(paths)
	if err != nil {
		return nil, err
	}
	whole["paths"] = kept
	return json.Marshal(whole)
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
