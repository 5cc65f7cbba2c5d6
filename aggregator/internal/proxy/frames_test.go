package proxy_test

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"github.com/annex-api/annex/aggregator/internal/backend"
)

// Extension servers may send frames of four records, and no larger ones: each
// connection keeps a buffer for what has come.
func TestFramesOfExtensionServers(t *testing.T) {
	const largest = backend.MaxFrame
	for _, c := range []struct {
		what  string
		frame int
		whole bool
	}{
		{"of the usual size", 16 << 10, true},
		{"the largest", largest, true},
		{"too large", largest + 1, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			l := newLab(t)
			body := make([]byte, 4*c.frame)
			_, _ = rand.Read(body)
			var asked atomic.Uint32 // the server may be connected to again
			l.http2(moments{
				settings: func(f *http2.SettingsFrame) {
					size, _ := f.Value(http2.SettingMaxFrameSize)
					asked.Store(size)
				},
				header: func(s *stream) {
					s.respond("200", "", false)
					for rest := body; len(rest) > 0; rest = rest[c.frame:] {
						_ = s.WriteData(s.number, len(rest) == c.frame, rest[:c.frame])
					}
				},
			})
			l.start()
			got := l.send(http.MethodGet, "1", nil)
			if whole := got.err == nil && got.code == http.StatusOK && bytes.Equal([]byte(got.body), body); whole != c.whole {
				t.Errorf("code %d, %d of %d bytes, %v", got.code, len(got.body), len(body), got.err)
			}
			if !c.whole && got.err == nil && (got.code == http.StatusOK || strings.Contains(got.body, string(body[:100]))) {
				t.Errorf("a part passed for the whole: code %d, %d bytes", got.code, len(got.body))
			}
			if asked.Load() != largest {
				t.Errorf("the extension server is told of frames of up to %d bytes, want %d", asked.Load(), largest)
			}
		})
	}
}
