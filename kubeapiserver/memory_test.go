package kubeapiserver

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
)

func zip(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// remembered is a ConfigMap as configMapMemory writes it.
func remembered(t *testing.T, name, apiService string, data []byte) *corev1.ConfigMap {
	t.Helper()
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceSystem, Name: name,
			Labels: map[string]string{memoryLabel: "discovery"}, Annotations: map[string]string{memoryAnnotation: apiService},
		},
		BinaryData: map[string][]byte{memoryKey: zip(t, data)},
	}
}

func memoryOf(t *testing.T, objects ...*corev1.ConfigMap) (configMapMemory, *fake.Clientset) {
	t.Helper()
	var all, partial []runtime.Object
	for _, o := range objects {
		all = append(all, o)
		partial = append(partial, &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: o.ObjectMeta})
	}
	client := fake.NewClientset(all...)
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	names := metadatafake.NewSimpleMetadataClient(scheme, partial...)
	return configMapMemory{
		configMaps: client.CoreV1().ConfigMaps(metav1.NamespaceSystem),
		metadata:   names.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(metav1.NamespaceSystem),
	}, client
}

// Only ConfigMaps of the APIServices that exist are read, within bounds.
func TestMemoryReadsWhatBelongsToAPIServices(t *testing.T) {
	const good, bomb, wrong, other = "v1.good.example", "v1.bomb.example", "v1.wrong.example", "v1.other.example"
	m, client := memoryOf(t,
		remembered(t, memoryName(good), good, []byte("{}")),
		remembered(t, memoryName(bomb), bomb, make([]byte, maxRemembered+1)),
		remembered(t, memoryName(wrong), good, []byte("{}")),
		remembered(t, memoryName(other), other, []byte("{}")),
		remembered(t, "somebody-elses", "v1.more.example", []byte("{}")),
	)
	saved, err := m.Load(t.Context(), []string{bomb, good, wrong, "v1.none.example"})
	if err != nil || !slices.Equal(slices.Sorted(maps.Keys(saved)), []string{good}) || string(saved[good]) != "{}" {
		t.Errorf("got %d documents, %v", len(saved), err)
	}
	for _, a := range client.Actions() {
		if a.GetVerb() != "get" {
			t.Errorf("%s of all ConfigMaps: others' may be any number of a megabyte each", a.GetVerb())
		}
	}

	var names []string
	var large []*corev1.ConfigMap
	for i := range maxLoaded/maxRemembered + 2 {
		name := fmt.Sprintf("v1.g%d.example", i)
		names = append(names, name)
		large = append(large, remembered(t, memoryName(name), name, make([]byte, maxRemembered)))
	}
	m, _ = memoryOf(t, large...)
	if saved, err = m.Load(t.Context(), names); err != nil || len(saved) != maxLoaded/maxRemembered {
		t.Errorf("got %d documents, %v, want %d: there is a bound for all together", len(saved), err, maxLoaded/maxRemembered)
	}

	// What is refused counts too: nothing is unzipped beyond the bound.
	bombs, hostile := []*corev1.ConfigMap{remembered(t, memoryName(good), good, []byte("{}"))}, []string(nil)
	for i := range maxLoaded/maxRemembered + loaders { // some wait while the last is read
		name := fmt.Sprintf("v1.b%d.example", i)
		hostile = append(hostile, name)
		bombs = append(bombs, remembered(t, memoryName(name), name, make([]byte, maxRemembered+1)))
	}
	m, _ = memoryOf(t, bombs...)
	if saved, err = m.Load(t.Context(), append(hostile, good)); err != nil || len(saved) != 0 {
		t.Errorf("got %d documents, %v, after all that may be unzipped was", len(saved), err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Load(ctx, names); err == nil {
		t.Error("went on after its time")
	}
}

// One that cannot be read costs that one: a server remembers most in the cluster
// in which most can go wrong.
func TestMemoryReturnsWhatItCouldRead(t *testing.T) {
	const good, broken = "v1.good.example", "v1.broken.example"
	m, client := memoryOf(t, remembered(t, memoryName(good), good, []byte("{}")), remembered(t, memoryName(broken), broken, []byte("{}")))
	gone := errors.New("etcd is gone")
	client.PrependReactor("get", "configmaps", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return a.(clienttesting.GetAction).GetName() == memoryName(broken), nil, gone
	})
	saved, err := m.Load(t.Context(), []string{broken, good})
	if !errors.Is(err, gone) || !slices.Equal(slices.Sorted(maps.Keys(saved)), []string{good}) {
		t.Errorf("got %d documents, %v", len(saved), err)
	}
}

func TestMemoryRetainsWhatBelongsToAPIServices(t *testing.T) {
	const kept, gone = "v1.kept.example", "v1.gone.example"
	m, client := memoryOf(t, remembered(t, memoryName(kept), kept, nil), remembered(t, memoryName(gone), gone, nil),
		remembered(t, memoryPrefix+"junk", "junk", nil), remembered(t, "extension-apiserver-authentication", gone, nil))
	if err := m.Retain(t.Context(), []string{kept}); err != nil {
		t.Fatal(err)
	}
	list, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).List(t.Context(), metav1.ListOptions{})
	var left []string
	for _, item := range list.Items {
		left = append(left, item.Name)
	}
	slices.Sort(left)
	// The label alone makes nobody's ConfigMap one of these.
	if want := []string{memoryName(kept), "extension-apiserver-authentication"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left: %q, %v, want %q", left, err, want)
	}
}
