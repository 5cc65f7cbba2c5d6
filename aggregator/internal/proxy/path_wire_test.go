package proxy

import (
	"bufio"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"pgregory.net/rapid"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// raw sends a request over HTTP/1.1 as it is written, and returns the code of the
// answer.
func (f *front) raw(t *testing.T, line string, header ...string) int {
	t.Helper()
	conn := f.dial(t)
	defer conn.Close()
	_, _ = io.WriteString(conn, line+"\r\nHost: front\r\n"+strings.Join(header, "")+"\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// pathReaders are ways in which servers read a path that they got.
var pathReaders = map[string]func(raw string) string{
	"decodes it":                     decodeOnce,
	"decodes it twice":               func(raw string) string { return decodeOnce(decodeOnce(raw)) },
	"cleans it":                      func(raw string) string { return path.Clean(decodeOnce(raw)) },
	"cleans it before it decodes it": func(raw string) string { return decodeOnce(path.Clean(raw)) },
	"decodes it twice and cleans it": func(raw string) string { return path.Clean(decodeOnce(decodeOnce(raw))) },
	"merges slashes":                 func(raw string) string { return regexp.MustCompile(`/+`).ReplaceAllString(decodeOnce(raw), "/") },
	"resolves dots as the URL that it is": func(raw string) string {
		u, err := url.Parse("https://host" + raw)
		if err != nil {
			return ""
		}
		return u.JoinPath().Path
	},
	"takes parameters off":                 func(raw string) string { return path.Clean(decodeOnce(withoutParameters(raw))) },
	"takes parameters off what it decoded": func(raw string) string { return path.Clean(withoutParameters(decodeOnce(raw))) },
	"takes a backslash for a slash":        func(raw string) string { return path.Clean(strings.ReplaceAll(decodeOnce(raw), `\`, "/")) },
	"takes overlong UTF-8": func(raw string) string {
		return path.Clean(strings.ReplaceAll(overlong.Replace(decodeOnce(raw)), `\`, "/"))
	},
	"drops what is not UTF-8": func(raw string) string { return path.Clean(strings.ToValidUTF8(decodeOnce(raw), "")) },
	"ends it at a zero": func(raw string) string {
		before, _, _ := strings.Cut(decodeOnce(raw), "\x00")
		return path.Clean(before)
	},
	"ends it at a number sign": func(raw string) string { before, _, _ := strings.Cut(raw, "#"); return path.Clean(decodeOnce(before)) },
}

// decodeOnce decodes escapes, and leaves what is none.
func decodeOnce(s string) string {
	return regexp.MustCompile(`%[0-9A-Fa-f]{2}`).ReplaceAllStringFunc(s, func(escape string) string {
		b, _ := hex.DecodeString(escape[1:])
		return string(b)
	})
}

// overlong spells ASCII with several bytes, where drawPath does.
var overlong = strings.NewReplacer("\xc0\xae", ".", "\xe0\x80\xae", ".", "\xc0\xaf", "/", "\xc1\x9c", `\`)

func withoutParameters(s string) string { return regexp.MustCompile(`;[^/]*`).ReplaceAllString(s, "") }

// whatIsRead is all that an authorizer goes by.
func whatIsRead(path string) string {
	factory := request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	info, err := factory.NewRequestInfo(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}})
	if err != nil {
		return "nothing"
	}
	if !info.IsResourceRequest {
		return fmt.Sprintf("%q", strings.TrimSuffix(info.Path, "/"))
	}
	return fmt.Sprintf("%q", []string{info.Verb, info.APIGroup, info.APIVersion, info.Namespace, info.Resource, info.Name, info.Subresource})
}

var (
	drawSegment = rapid.SampledFrom([]string{
		"", ".", "..", "...", "%2e", "%2e%2e", ".%2E", "%252e%252e", "..%2f..", "%2F", "a%2Fb", "a%252Fb", "%5c", `..\..`, "..%5C", "%c0%ae%c0%ae", "%c0%ae%c0%ae%c0%af", "%e0%80%ae.",
		";", "..;", "..;a=b", ".;", ";a", "a;..", "%3b", "..%3Ba", "a%00", "..%00", ".%00.", "%ff", "..%ff", ".%ff.", "#", "%23", "%3F", "%25", "%2525", "a b", "%20", "ä", "%C3%A4",
	})
	drawName = rapid.SampledFrom([]string{"a", "b", "things", "namespaces", "proxy", "x", "status", "watch"})
	drawPath = rapid.Custom(func(t *rapid.T) string {
		front := rapid.SampledFrom([]string{
			base, base + "/namespaces/a/things", base + "/namespaces/a/things/x", base + "/namespaces/a/things/x/proxy", base + "/things/x/proxy/a/b", base + "/proxy/things/x", base + "/watch/things",
		}).Draw(t, "front")
		// Mostly names, so that paths are long enough for what is odd to be anywhere.
		rest := rapid.SliceOfN(rapid.OneOf(drawName, drawName, drawSegment), 0, 5).Draw(t, "rest")
		p := strings.ReplaceAll(front+"/"+strings.Join(rest, "/"), " ", "%20")
		if rapid.IntRange(0, 3).Draw(t, "encoded slash") == 0 {
			if i := strings.LastIndexByte(p, '/'); i > len(base) {
				p = p[:i] + "%2F" + p[i+1:]
			}
		}
		return p
	})
)

// However a path is spelled, and however the extension server reads what arrives: it
// reads what the authorizer read. What is below a subresource arrives as it was sent.
func TestAuthorizerAndExtensionServerReadTheSamePath(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Arrived", url.QueryEscape(r.RequestURI))
		w.WriteHeader(http.StatusTeapot) // refuses upgrades too
	})
	http2 := backendtest.Start(t, "api", handler)
	for way, s := range map[string]*backendtest.Server{"HTTP/2": http2, "HTTP/1.1": startHTTP1(t, handler), "an upgrade": http2} {
		t.Run(way, func(t *testing.T) {
			f := startFront(t, s.Claim(name))
			header := ""
			if way == "an upgrade" {
				header = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
			}
			c := newRawClient(t, f)
			arrived, refused, own := 0, 0, 0
			rapid.Check(t, func(rt *rapid.T) {
				sent := drawPath.Draw(rt, "path")
				response := c.send(t, "GET "+sent+" HTTP/1.1\r\nHost: front\r\n"+header+"\r\n")
				if response.StatusCode != http.StatusTeapot {
					refused++
					if response.StatusCode != http.StatusBadRequest {
						rt.Errorf("%s: %d", sent, response.StatusCode)
					}
					return
				}
				arrived++
				got, err := url.QueryUnescape(response.Header.Get("Arrived"))
				if err != nil {
					rt.Fatal(err)
				}
				authorized := whatIsRead(decodeOnce(sent))
				for how, read := range pathReaders {
					if read := whatIsRead(read(got)); read != authorized {
						rt.Errorf("%s arrived as %s: the authorizer read %s, a server that %s reads %s", sent, got, authorized, how, read)
					}
				}
				for _, front := range []string{"/namespaces/a/things/x/proxy/", "/things/x/proxy/"} {
					if rest, below := strings.CutPrefix(sent, base+front); below {
						own++
						if want := base + front + strings.ReplaceAll(rest, "#", "%23"); got != want {
							rt.Errorf("%s arrived as %s", sent, got)
						}
					}
				}
			})
			// The short form draws too few to have all.
			if !testing.Short() && (arrived < 5 || refused < 5 || own < 5) {
				t.Errorf("%d paths arrived, %d of them below a subresource, %d were refused", arrived, own, refused)
			}
		})
	}
}

// rawClient sends requests as they are written, over one connection for as long as
// the front keeps it.
type rawClient struct {
	front  *front
	conn   *tls.Conn
	reader *bufio.Reader
}

func newRawClient(_ *testing.T, f *front) *rawClient { return &rawClient{front: f} }

func (c *rawClient) send(t *testing.T, text string) *http.Response {
	t.Helper()
	if c.conn == nil {
		c.conn = c.front.dial(t)
		c.reader = bufio.NewReader(c.conn)
	}
	_, _ = io.WriteString(c.conn, text)
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if response.Close {
		_ = c.conn.Close()
		c.conn = nil
	}
	return response
}
