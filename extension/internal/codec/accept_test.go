package codec

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAcceptable(t *testing.T) {
	const protobuf, cbor, json = "application/vnd.kubernetes.protobuf", "application/cbor", "application/json"
	const table = ";as=Table;g=meta.k8s.io;v=v1"
	for asked, want := range map[string]string{
		"":                                      "",
		json:                                    json,
		"*/*":                                   "*/*",
		protobuf:                                json,
		protobuf + "," + json:                   json,
		protobuf + ";q=0.9, " + json:            json,
		protobuf + ";stream=watch":              json + "; stream=watch",
		protobuf + table:                        protobuf + table,
		protobuf + table + "," + protobuf:       protobuf + table,
		cbor:                                    json,
		"application/cbor-seq":                  json,
		cbor + "," + json:                       json,
		cbor + "," + protobuf:                   json + "," + json,
		cbor + table:                            json + "; as=Table; g=meta.k8s.io; v=v1",
		"text/html":                             "text/html",
		"application/yaml," + cbor:              "application/yaml",
		protobuf + "\n" + "application/yaml":    "application/yaml",
		"no media type at all," + protobuf:      "no media type at all",
		"application/vnd.kubernetes.protobuf, ": json,
	} {
		h := http.Header{}
		if asked != "" {
			h["Accept"] = strings.Split(asked, "\n")
		}
		Acceptable(h, false, false)
		if got := strings.Join(h["Accept"], "\n"); got != want {
			t.Errorf("%q becomes %q, want %q", asked, got, want)
		}
		h = http.Header{"Accept": strings.Split(asked, "\n")}
		Acceptable(h, true, true)
		if got, want := strings.Join(h["Accept"], "\n"), strings.ReplaceAll(asked, "cbor-seq", "cbor"); got != want {
			t.Errorf("where there is all, %q becomes %q, want %q", asked, got, want)
		}
	}
}

func TestHasProtobuf(t *testing.T) {
	if !HasProtobuf(&corev1.Pod{}) || HasProtobuf(&metav1.Table{}) {
		t.Error("a Pod has protobuf, and a Table has none")
	}
}
