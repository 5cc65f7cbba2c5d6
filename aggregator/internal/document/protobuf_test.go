package document

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
)

// larger is a real document with so many more schemas and paths that it takes
// several pieces.
func larger(t testing.TB, file, schemas string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	paths, definitions := doc["paths"].(map[string]any), doc
	for field := range strings.SplitSeq(schemas, "/") {
		definitions = definitions[field].(map[string]any)
	}
	var path, definition any
	for _, path = range paths {
		break
	}
	for _, definition = range definitions {
		break
	}
	for i := range 500 {
		paths[fmt.Sprintf("/more/%03d", i)] = path
		definitions[fmt.Sprintf("more.%03d", i)] = definition
	}
	doc["tags"] = []any{map[string]any{"name": "a tag"}}
	doc["info"].(map[string]any)["x-more"] = map[string]any{"a": 1}
	if data, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPiecesAreTheWhole(t *testing.T) {
	for _, c := range []struct {
		file, schemas string
		protobuf      func(context.Context, []byte, func([]byte) ([]byte, error)) ([]byte, error)
		encode        func([]byte) ([]byte, error)
		empty         func() proto.Message
	}{
		{"testdata/notices.v2.json", v2Schemas, ProtobufV2, handler.ToProtoBinary, func() proto.Message { return &openapi_v2.Document{} }},
		{"testdata/notices.v3.json", v3Schemas, ProtobufV3, handler3.ToV3ProtoBinary, func() proto.Message { return &openapi_v3.Document{} }},
	} {
		t.Run(c.file, func(t *testing.T) {
			data := larger(t, c.file, c.schemas)
			whole, err := c.encode(data)
			if err != nil {
				t.Fatal(err)
			}
			pieces := 0
			got, err := c.protobuf(t.Context(), data, func(piece []byte) ([]byte, error) {
				pieces++
				if n, err := Tokens(piece, maxPieceTokens+300); err != nil {
					t.Errorf("a piece has %d tokens: %v", n, err)
				}
				return c.encode(piece)
			})
			if err != nil {
				t.Fatal(err)
			}
			if pieces < 3 {
				t.Errorf("%d pieces of %d bytes", pieces, len(data))
			}
			want, read := c.empty(), c.empty()
			if err := proto.Unmarshal(whole, want); err != nil {
				t.Fatal(err)
			}
			if err := proto.Unmarshal(got, read); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(want, read) {
				t.Error("the pieces are not read as the whole is")
			}
		})
	}
}

// The names of the smallest parts are as much as the parts.
func TestNamesCountInPieces(t *testing.T) {
	_, err := ProtobufV2(t.Context(), worst["schemas"](), func(piece []byte) ([]byte, error) {
		return nil, WellFormed(piece, maxPieceTokens+300)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPiecesEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	pieces := 0
	_, err := ProtobufV2(ctx, larger(t, "testdata/notices.v2.json", v2Schemas), func([]byte) ([]byte, error) {
		pieces++
		cancel(enough)
		return nil, nil
	})
	if !errors.Is(err, enough) || pieces != 1 {
		t.Errorf("%d pieces, then %v", pieces, err)
	}
}

func TestPartBeyondTheBoundIsRefused(t *testing.T) {
	list := "[" + strings.Repeat("1,", maxPartTokens) + "1]"
	for what, doc := range map[string]string{
		"a schema": `{"swagger":"2.0","info":{"title":"a","version":"1"},"paths":{"/apis/a/v1":{"x":{"$ref":"#/definitions/big"}}},"definitions":{"big":{"enum":` + list + `}}}`,
		"a path":   `{"swagger":"2.0","info":{"title":"a","version":"1"},"paths":{"/apis/a/v1":{"x-big":` + list + `}}}`,
		"a field":  `{"swagger":"2.0","info":{"title":"a","version":"1"},"paths":{"/apis/a/v1":{}},"x-big":` + list + `}`,
	} {
		d, err := ReadV2([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Below(t.Context(), "/apis/a/v1"); err == nil || !strings.Contains(err.Error(), fmt.Sprint("more than ", maxPartTokens)) && !strings.Contains(err.Error(), "x-big") {
			t.Errorf("%s is taken: %v", what, err)
		}
	}
}

// A CRD of several MB is one definition of the merged document.
func TestLargePartIsAPieceOfItsOwn(t *testing.T) {
	large := `{"properties":{` + strings.Repeat(`"%d":{"type":"string"},`, maxPartTokens) + `"x":{}}}`
	for what, data := range map[string][]byte{
		"a schema": definitions(2, large),
		"a path":   definitions(2, `{}`, strings.Repeat(`,"/apis/a/v1/%d":{"parameters":[`+strings.Repeat(`{"$ref":"#/parameters/a"},`, maxPartTokens)+`{"$ref":"#/parameters/a"}]}`, 2)),
		"a field":  []byte(`{"swagger":"2.0","info":{"title":"a","version":"1"},"paths":{"/apis/a/v1":{}},"x-big":[` + strings.Repeat("1,", maxPartTokens) + `1],"definitions":{"a":{"type":"object"}}}`),
	} {
		t.Run(what, func(t *testing.T) {
			var inOrder any
			if err := json.Unmarshal(data, &inOrder); err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(inOrder)
			if err != nil {
				t.Fatal(err)
			}
			whole, err := handler.ToProtoBinary(data)
			if err != nil {
				t.Fatal(err)
			}
			pieces := 0
			got, err := ProtobufV2(t.Context(), data, func(piece []byte) ([]byte, error) {
				pieces++
				return handler.ToProtoBinary(piece)
			})
			if err != nil {
				t.Fatal(err)
			}
			if pieces < 2 {
				t.Error("all is encoded at once")
			}
			want, read := &openapi_v2.Document{}, &openapi_v2.Document{}
			if err := errors.Join(proto.Unmarshal(whole, want), proto.Unmarshal(got, read)); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(want, read) {
				t.Error("the pieces are not read as the whole is")
			}
		})
	}
}

// worst are documents that cost a library most, a group version as large as the
// bounds let it be.
var worst = map[string]func() []byte{
	"schemas": func() []byte { return definitions(59_000, `{}`) },
	"enums":   func() []byte { return definitions(6, `{"enum":[`+strings.Repeat(`"",`, maxPartTokens-10)+`""]}`) },
	"parameters": func() []byte {
		return definitions(1, `{}`, strings.Repeat(`,"/apis/a/v1/%d":{"parameters":[`+strings.Repeat(`{},`, 9_000)+`{}]}`, 12))
	},
	"properties": func() []byte {
		return definitions(6, `{"properties":{`+strings.Repeat(`"%d":{},`, maxPartTokens/2-10)+`"x":{}}}`)
	},
}

// definitions is a version 2 document with n equal definitions and more paths;
// each %d in them becomes another number.
func definitions(n int, definition string, paths ...string) []byte {
	var b strings.Builder
	b.WriteString(`{"swagger":"2.0","info":{"title":"a","version":"1"},"paths":{"/apis/a/v1":{}` + strings.Join(paths, "") + `},"definitions":{"a":{}`)
	for range n {
		b.WriteString(`,"%d":` + definition)
	}
	b.WriteString(`}}`)
	return []byte(numbered(b.String()))
}

// numbered puts another number in place of each %d.
func numbered(text string) string {
	var b strings.Builder
	for number := 1; ; number++ {
		before, after, found := strings.Cut(text, "%d")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		fmt.Fprint(&b, number)
		text = after
	}
}

// maxPeak is what the heap may grow by while a document is converted, garbage
// included.
const maxPeak = 256 << 20

func TestProtobufOfTheWorstIsBounded(t *testing.T) {
	for name, make := range worst {
		t.Run(name, func(t *testing.T) {
			data := make()
			if err := WellFormed(data, maxGroupVersionTokens); err != nil {
				t.Fatal(err)
			}
			// The whole at once takes up to 125 MiB.
			peaksBelow(t, 96<<20, func(ctx context.Context) error {
				_, err := ProtobufV2(ctx, data, handler.ToProtoBinary)
				return err
			})
		})
	}
}

// peaksBelow runs a conversion of a document and reports where it fails, or has
// more than limit bytes in use.
func peaksBelow(t *testing.T, limit uint64, convert func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // far more than it takes
	defer cancel()
	var err error
	peak := peakHeap(func() { err = convert(ctx) })
	if err != nil {
		t.Error(err)
	}
	if peak > limit {
		t.Errorf("%d MiB are in use", peak>>20)
	}
}

// BenchmarkProtobufOfTheWorst shows what the bounds mean: the bytes that are in use
// at most are printed beside the time.
func BenchmarkProtobufOfTheWorst(b *testing.B) {
	for name, make := range worst {
		data := make()
		for way, protobuf := range map[string]func() ([]byte, error){
			"pieces": func() ([]byte, error) { return ProtobufV2(b.Context(), data, handler.ToProtoBinary) },
			"whole":  func() ([]byte, error) { return handler.ToProtoBinary(data) },
		} {
			b.Run(name+"/"+way, func(b *testing.B) {
				b.ReportMetric(float64(len(data))/(1<<20), "MiB-document")
				for b.Loop() {
					peak := peakHeap(func() {
						if _, err := protobuf(); err != nil {
							b.Log(err)
						}
					})
					b.ReportMetric(float64(peak)/(1<<20), "MiB-peak")
				}
			})
		}
	}
}

// peakHeap is by how many bytes the heap grows at most while f runs, with what
// is garbage but not yet collected.
func peakHeap(f func()) (peak uint64) {
	inUse := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	runtime.GC()
	before := inUse()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.Tick(time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-tick:
				peak = max(peak, inUse()-min(inUse(), before))
			}
		}
	}()
	f()
	close(stop)
	<-stopped
	return peak
}
