package kubeapiserver

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
)

const (
	memoryPrefix     = "annex-last-known-" // of the ConfigMaps' names
	memoryLabel      = "aggregation.annex.dev/last-known"
	memoryAnnotation = "aggregation.annex.dev/apiservice"
	memoryKey        = "discovery.json.gz"
	// maxRemembered bounds a document after decompression, in bytes.
	maxRemembered = 4 << 20
	// maxLoaded bounds all documents together, in bytes.
	maxLoaded = 64 << 20
	// loaders read at a time when a server starts, so that a thousand take well
	// under the two seconds that there are.
	loaders = 8
	// retainPage is how many names are asked for at a time.
	retainPage = 500
)

// zippers are kept because each takes most of a megabyte, and a first start
// saves a document for each APIService.
var zippers = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

// configMapMemory keeps discovery documents in ConfigMaps, one for each
// APIService: in etcd, where every API server of the cluster finds them. Others may
// write ConfigMaps there too: only those with the name of an APIService are read, and
// of the rest no more than metadata.
type configMapMemory struct {
	configMaps corev1client.ConfigMapInterface
	metadata   metadata.ResourceInterface // of ConfigMaps in the same namespace
}

func memoryName(apiService string) string {
	sum := sha256.Sum256([]byte(apiService))
	return memoryPrefix + hex.EncodeToString(sum[:8])
}

// Load implements aggregator.Memory.
func (m configMapMemory) Load(ctx context.Context, apiServices []string) (map[string][]byte, error) {
	names := make(chan string)
	found := make(chan *corev1.ConfigMap)
	var failed failures
	group, reading := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(names)
		for _, name := range apiServices {
			select {
			case names <- name:
			case <-reading.Done():
				return reading.Err()
			}
		}
		return nil
	})
	for range loaders {
		group.Go(func() error {
			for name := range names {
				item, err := m.configMaps.Get(reading, memoryName(name), metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					continue
				}
				if err != nil {
					failed.note(err) // the others are worth having
					continue
				}
				if item.Annotations[memoryAnnotation] != name || len(item.BinaryData[memoryKey]) == 0 {
					continue // not ours: the next download replaces it
				}
				select {
				case found <- item:
				case <-reading.Done():
					return reading.Err()
				}
			}
			return nil
		})
	}
	ended := make(chan error, 1)
	go func() {
		err := group.Wait()
		if err == nil {
			err = failed.err()
		}
		ended <- err
		close(found)
	}()
	saved, left := map[string][]byte{}, int64(maxLoaded)
	unzipped := new(gzip.Reader) // one for all: each has a window of 32 KiB
	for item := range found {
		if left <= 0 || ctx.Err() != nil {
			continue // and let the loaders end
		}
		if unzipped.Reset(bytes.NewReader(item.BinaryData[memoryKey])) != nil {
			continue // damaged: the next download replaces it
		}
		data, err := io.ReadAll(io.LimitReader(unzipped, min(maxRemembered, left)+1))
		refused := err != nil || int64(len(data)) > min(maxRemembered, left)
		left -= int64(len(data)) // one that is refused cost as much
		if refused {
			continue
		}
		saved[item.Annotations[memoryAnnotation]] = data
	}
	return saved, <-ended
}

// failures are those of many reads.
type failures struct {
	mu    sync.Mutex
	count int
	last  error
}

func (f *failures) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	f.last = err
}

func (f *failures) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		return nil
	}
	return fmt.Errorf("reading %d remembered discovery documents: %w", f.count, f.last)
}

// Retain implements aggregator.Memory.
func (m configMapMemory) Retain(ctx context.Context, apiServices []string) error {
	kept := map[string]bool{}
	for _, name := range apiServices {
		kept[memoryName(name)] = true
	}
	for next := ""; ; {
		list, err := m.metadata.List(ctx, metav1.ListOptions{LabelSelector: memoryLabel, Limit: retainPage, Continue: next})
		if err != nil {
			return fmt.Errorf("listing remembered discovery documents: %w", err)
		}
		for _, item := range list.Items {
			if kept[item.Name] || !strings.HasPrefix(item.Name, memoryPrefix) { // a label is anybody's
				continue
			}
			if err := m.configMaps.Delete(ctx, item.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("deleting ConfigMap %s: %w", item.Name, err)
			}
		}
		if next = list.Continue; next == "" {
			return nil
		}
	}
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
