package kubeapiserver

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

const (
	memoryLabel      = "aggregation.annex.dev/last-known"
	memoryAnnotation = "aggregation.annex.dev/apiservice"
	memoryKey        = "discovery.json.gz"
	// maxRemembered bounds a document after decompression, in bytes.
	maxRemembered = 4 << 20
)

// zippers are kept because each takes most of a megabyte, and a first start
// saves a document for each APIService.
var zippers = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

// configMapMemory keeps discovery documents in ConfigMaps, one for each
// APIService: in etcd, where every API server of the cluster finds them.
type configMapMemory struct {
	configMaps corev1client.ConfigMapInterface
}

func memoryName(apiService string) string {
	sum := sha256.Sum256([]byte(apiService))
	return "annex-last-known-" + hex.EncodeToString(sum[:8])
}

// Load implements aggregator.Memory.
func (m configMapMemory) Load(ctx context.Context) (map[string][]byte, error) {
	list, err := m.configMaps.List(ctx, metav1.ListOptions{LabelSelector: memoryLabel})
	if err != nil {
		return nil, fmt.Errorf("listing remembered discovery documents: %w", err)
	}
	saved := map[string][]byte{}
	unzipped := new(gzip.Reader) // one for all: each has a window of 32 KiB
	for i := range list.Items {
		item := &list.Items[i]
		if unzipped.Reset(bytes.NewReader(item.BinaryData[memoryKey])) != nil {
			continue // not ours, or damaged: the next download replaces it
		}
		data, err := io.ReadAll(io.LimitReader(unzipped, maxRemembered))
		if name := item.Annotations[memoryAnnotation]; err == nil && item.Name == memoryName(name) {
			saved[name] = data
		}
	}
	return saved, nil
}

// Save implements aggregator.Memory.
func (m configMapMemory) Save(ctx context.Context, apiService string, document []byte) error {
	var zipped bytes.Buffer
	w := zippers.Get().(*gzip.Writer)
	w.Reset(&zipped)
	_, _ = w.Write(document) // a buffer takes all
	_ = w.Close()
	zippers.Put(w)
	if zipped.Len() > corev1.MaxSecretSize { // the bound of a ConfigMap: to remember nothing is better than an old one
		return m.Forget(ctx, apiService)
	}
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name:        memoryName(apiService),
			Labels:      map[string]string{memoryLabel: "discovery"},
			Annotations: map[string]string{memoryAnnotation: apiService},
		},
		BinaryData: map[string][]byte{memoryKey: zipped.Bytes()},
	}
	_, err := m.configMaps.Create(ctx, object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = m.configMaps.Update(ctx, object, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("saving ConfigMap %s: %w", object.Name, err)
	}
	return nil
}

// Forget implements aggregator.Memory.
func (m configMapMemory) Forget(ctx context.Context, apiService string) error {
	err := m.configMaps.Delete(ctx, memoryName(apiService), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting ConfigMap %s: %w", memoryName(apiService), err)
	}
	return nil
}
