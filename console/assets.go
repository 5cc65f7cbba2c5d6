package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
)

//go:embed dist
var built embed.FS

// asset is one file of the page.
type asset struct {
	kind, etag string
	content    []byte
}

var kinds = map[string]string{
	"index.html":   "text/html; charset=utf-8",
	"app.js":       "text/javascript; charset=utf-8",
	"app.css":      "text/css; charset=utf-8",
	"icon.svg":     "image/svg+xml",
	"licenses.txt": "text/plain; charset=utf-8",
}

// assets are the files of the page by the patterns of a mux below Path.
func assets() map[string]asset {
	found := map[string]asset{}
	for name, kind := range kinds {
		content, err := fs.ReadFile(built, "dist/"+name)
		if err != nil {
			panic(fmt.Sprintf("the page lacks a file: %v", err)) // embedded: the build has it or fails its tests
		}
		sum := sha256.Sum256(content)
		pattern := name
		if name == "index.html" {
			pattern = "{$}"
		}
		found[pattern] = asset{kind, `"` + hex.EncodeToString(sum[:16]) + `"`, content}
	}
	return found
}

// IsFile says whether a path is that of one of the page's own files, which hold nothing of a cluster.
func IsFile(path string) bool {
	name, below := strings.CutPrefix(path, Path)
	return below && (name == "" || kinds[name] != "")
}

// ServeHTTP gives the file, or 304 to who has it.
func (a asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", a.etag)
	h.Set("Cache-Control", "no-cache") // a new Annex has a new page
	if r.Header.Get("If-None-Match") == a.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.kind)
	h.Set("Content-Length", strconv.Itoa(len(a.content)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(a.content) // the client is gone where it cannot be written
	}
}
