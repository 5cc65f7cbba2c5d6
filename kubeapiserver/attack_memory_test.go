//go:build !race

// What is remembered is read within bounds of time, within which the race detector gets
// nowhere: it makes this ten times as long.

package kubeapiserver_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// Threat hostile documents: whoever may write ConfigMaps in kube-system puts what costs
// most in the place of last known documents. A server that starts then is ready, lists
// nothing of them, and still lists what is good.
func TestAttackLastKnownDocuments(t *testing.T) {
	const resource = `{"resource":"things","responseKind":{"group":"","version":"","kind":"Thing"},"scope":"Namespaced","verbs":["get"]}`
	documents := map[string]string{
		"bomb":      strings.Repeat(" ", 64<<20),
		"full":      `{"version":"v1","x":"` + strings.Repeat("x", 4<<20-100) + `","resources":[{}]}`,
		"values":    `{"version":"v1","resources":[` + resource + `],"x":[` + strings.Repeat("0,", 1<<20) + `0]}`,
		"nested":    `{"version":"v1","x":` + strings.Repeat("[", 1<<20),
		"no-json":   "\x00\xff",
		"of-other":  `{"version":"v2","resources":[` + resource + `]}`,
		"nameless":  `{"version":"v1","resources":[{}]}`,
		"truncated": `{"version":"v1","resources":[` + resource,
	}
	kube := server.Kube(t)
	put := func(group, document string) {
		v := gv(group, "v1")
		e := test.NewExtension(t, strings.SplitN(group, ".", 2)[0]) // its Service is not there
		server.CreateRegistration(t, test.Registration(v, e))
		name := v.Version + "." + v.Group
		sum := sha256.Sum256([]byte(name))
		object := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Name:        "annex-last-known-" + hex.EncodeToString(sum[:8]),
				Labels:      map[string]string{"aggregation.annex.dev/last-known": "discovery"},
				Annotations: map[string]string{"aggregation.annex.dev/apiservice": name},
			},
			BinaryData: map[string][]byte{"discovery.json.gz": zipped(t, document)},
		}
		maps := kube.CoreV1().ConfigMaps(metav1.NamespaceSystem)
		if _, err := maps.Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := maps.Delete(context.Background(), object.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		})
	}
	hostile := 0
	for name, document := range documents {
		for i := range 4 {
			put(fmt.Sprintf("%s%d.memory.attack", name, i), document)
			hostile++
		}
	}
	put("good.memory.attack", `{"version":"v1","resources":[`+resource+`]}`)

	started, err := server.Beside()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := started.Stop(); err != nil {
			t.Error(err)
		}
	}()
	a := started.Get(t, test.Admin, "/apis", "Accept", test.DiscoveryV2)
	if !strings.Contains(a.Body, `"things"`) || !strings.Contains(a.Body, "good.memory.attack") || !strings.Contains(a.Body, `"deployments"`) {
		t.Errorf("the server lists %d bytes, and not what is good in them", len(a.Body))
	}
	if n := strings.Count(a.Body, `"resource":"things"`); n != 1 {
		t.Errorf("%d documents are listed, want one of %d", n, hostile+1)
	}
}

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
