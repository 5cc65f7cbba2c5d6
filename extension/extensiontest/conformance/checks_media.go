package conformance

import (
	"bytes"
	"context"
	"mime"
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// The media types of objects.
const (
	jsonMedia     = "application/json"
	yamlMedia     = "application/yaml"
	protobufMedia = "application/vnd.kubernetes.protobuf"
	cborMedia     = "application/cbor"
	metadataOnly  = ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	metadataList  = ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
)

func mediaChecks() []Check {
	const source = concepts + "#alternate-representations-of-resources"
	return []Check{
		{
			ID:      "media/json",
			Promise: "Objects and lists come as JSON when JSON is asked for, and Content-Type says so.",
			Source:  source,
			Needs:   []Need{Verb("get"), Verb("list")},
			Run: func(ctx context.Context, t *T) {
				for _, a := range t.readAs(ctx, jsonMedia) {
					t.wantMedia(t.want(a, http.StatusOK), jsonMedia)
				}
			},
		},
		{
			ID:      "media/yaml",
			Promise: "Objects and lists come as YAML when YAML is asked for, and Content-Type says so.",
			Source:  source,
			Needs:   []Need{Verb("get"), Verb("list")},
			Run: func(ctx context.Context, t *T) {
				for _, a := range t.readAs(ctx, yamlMedia) {
					t.wantMedia(t.want(a, http.StatusOK), yamlMedia)
				}
			},
		},
		{
			ID:      "media/protobuf",
			Promise: "A client that takes protobuf or else JSON gets one of them; one that takes protobuf alone gets it, or else JSON, as HTTP allows, or 406 with a Status.",
			Source:  source + ", https://github.com/kubernetes/kubernetes/issues/86253, and RFC 9110, 12.4.1",
			Faults:  []int{12},
			Needs:   []Need{Verb("get"), Verb("list")},
			Run:     checkProtobuf,
		},
		{
			ID:      "media/protobuf-metadata",
			Promise: "Metadata clients, as garbage collection uses them, get PartialObjectMetadata by get and list in one of the media types that they take.",
			Source:  keps + "sig-api-machinery/2334-metadata-client, and client-go/metadata",
			Faults:  []int{12},
			Needs:   []Need{Verb("get"), Verb("list")},
			Run:     checkMetadataMedia,
		},
		{
			ID:      "media/cbor",
			Promise: "A client that takes CBOR or else JSON gets one of them.",
			Source:  keps + "sig-api-machinery/4222-cbor-serializer",
			Faults:  []int{12},
			Needs:   []Need{Verb("get"), Verb("list")},
			Run: func(ctx context.Context, t *T) {
				for _, a := range t.readAs(ctx, cborMedia+","+jsonMedia) {
					t.wantMedia(t.want(a, http.StatusOK), cborMedia, jsonMedia)
				}
			},
		},
		{
			ID:      "media/body-unsupported",
			Promise: "A body of a media type that the server does not know is answered 415 with a Status.",
			Source:  concepts + "#alternate-representations-of-resources",
			Faults:  []int{7},
			Needs:   []Need{Writable},
			Run: func(ctx context.Context, t *T) {
				r := t.posting(t.object())
				a := t.do(ctx, r.with("Content-Type", "text/plain"))
				t.refused(a, http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType)
			},
		},
	}
}

// readAs gets an object and lists, with an Accept header. What comes must be the object, and a list that
// is not empty, as far as we can read it.
func (t *T) readAs(ctx context.Context, accept string) []answer {
	o := t.existing(ctx)
	get := request{method: http.MethodGet, path: t.path(o)}
	list := request{method: http.MethodGet, path: t.subject.path(o.GetNamespace(), ""), query: query("limit", "10")}
	object, objects := t.do(ctx, get.with("Accept", accept)), t.do(ctx, list.with("Accept", accept))
	if got, ok := t.readable(object); ok && got.GetName() != o.GetName() {
		t.failf(object.Exchange, "the answer is not the object %s", o.GetName())
	}
	if got, ok := t.readable(objects); ok {
		if items, _ := got.Object["items"].([]any); len(items) == 0 { // no array has no items
			t.failf(objects.Exchange, "the list has no items though there is %s", o.GetName())
		}
	}
	return []answer{object, objects}
}

// readable reads what is JSON or YAML. Other media types, and errors, are for who asked.
func (t *T) readable(a answer) (*unstructured.Unstructured, bool) {
	media, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || a.Code != http.StatusOK || media != jsonMedia && media != yamlMedia {
		return nil, false
	}
	o := map[string]any{}
	if err := yaml.Unmarshal(a.raw, &o); err != nil { // JSON is YAML
		t.failf(a.Exchange, "the body is no %s: %v", media, err)
		return nil, false
	}
	return &unstructured.Unstructured{Object: o}, true
}

// wantMedia fails unless the answer has one of the media types.
func (t *T) wantMedia(a answer, want ...string) string {
	got, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(want, got) {
		t.failf(a.Exchange, "Content-Type is %q, want one of %q", a.Header.Get("Content-Type"), want)
	}
	if got == protobufMedia && !bytes.HasPrefix(a.raw, []byte("k8s\x00")) {
		t.failf(a.Exchange, "the body is no Kubernetes protobuf: it does not begin with k8s and a zero byte")
	}
	return got
}

func checkProtobuf(ctx context.Context, t *T) {
	for _, a := range t.readAs(ctx, protobufMedia+","+jsonMedia) {
		t.wantMedia(t.want(a, http.StatusOK), protobufMedia, jsonMedia)
	}
	for _, a := range t.readAs(ctx, protobufMedia) {
		if t.want(a, http.StatusOK, http.StatusNotAcceptable).Code == http.StatusOK {
			t.wantMedia(a, protobufMedia, jsonMedia)
		}
	}
	// An error is for everybody.
	absent := request{method: http.MethodGet, path: t.subject.path(t.subject.namespace, t.name())}
	t.want(t.do(ctx, absent.with("Accept", protobufMedia+","+jsonMedia)), http.StatusNotFound)
}

func checkMetadataMedia(ctx context.Context, t *T) {
	accept := func(as string) string { return protobufMedia + as + "," + jsonMedia + as + "," + jsonMedia }
	o := t.existing(ctx)
	get := request{method: http.MethodGet, path: t.path(o)}
	list := request{method: http.MethodGet, path: t.subject.path(o.GetNamespace(), ""), query: query("limit", "10")}
	for want, a := range map[string]answer{
		"PartialObjectMetadata":     t.do(ctx, get.with("Accept", accept(metadataOnly))),
		"PartialObjectMetadataList": t.do(ctx, list.with("Accept", accept(metadataList))),
	} {
		if t.wantMedia(t.want(a, http.StatusOK), protobufMedia, jsonMedia) != jsonMedia {
			if !bytes.Contains(a.raw, []byte(want)) {
				t.failf(a.Exchange, "the protobuf body is no %s", want)
			}
			continue
		}
		if kind := t.parsed(a).GetKind(); kind != want {
			t.failf(a.Exchange, "the kind is %q, want %q", kind, want)
		}
	}
}
