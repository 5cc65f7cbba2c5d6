package ring

import (
	"context"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
)

// Cache is a Storage under the watch cache of k8s.io/apiserver, which gives clients
// what the API promises: lists at a resourceVersion, watches with selectors,
// initial events and bookmarks.
//
// Its watches with initial events need SupportWatchList.
type Cache struct {
	storage.Interface
	Ring *Storage

	cacher *cacher.Cacher
	stop   func()
}

// NewCache starts the watch cache over a Storage. Stop ends both.
func NewCache(s *Storage) (*Cache, error) {
	c, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage:             s,
		Versioner:           s.Versioner(),
		GroupResource:       s.config.Resource,
		EventsHistoryWindow: s.config.Window.history(),
		ResourcePrefix:      s.Prefix(),
		KeyFunc:             s.keyOf,
		GetAttrsFunc:        s.attributesOrPlain,
		NewFunc:             s.config.New,
		NewListFunc:         s.config.NewList,
		Codec:               noCodec{},
	})
	if err != nil {
		return nil, fmt.Errorf("starting the watch cache of %s: %w", s.config.Resource, err)
	}
	delegator := cacher.NewCacheDelegator(c, s)
	return &Cache{Interface: delegator, Ring: s, cacher: c, stop: delegator.Stop}, nil
}

// Resource names the kind.
func (c *Cache) Resource() schema.GroupResource { return c.Ring.config.Resource }

// Namespaced says whether the kind's objects have namespaces.
func (c *Cache) Namespaced() bool { return c.Ring.config.Namespaced }

// New makes an empty object.
func (c *Cache) New() runtime.Object { return c.Ring.config.New() }

// NewList makes an empty list.
func (c *Cache) NewList() runtime.Object { return c.Ring.config.NewList() }

// ReadinessCheck says why nothing can be read now.
func (c *Cache) ReadinessCheck() error {
	if err := c.Ring.ReadinessCheck(); err != nil {
		return err
	}
	return c.Interface.ReadinessCheck()
}

// Wait waits until the cache has the first answer.
func (c *Cache) Wait(ctx context.Context) error { return c.cacher.Wait(ctx) }

// Stop ends the cache and the ring, and all watches.
func (c *Cache) Stop() {
	c.stop()
	closed := make(chan struct{})
	go func() { // the cacher may wait for a list that the ring's end releases
		defer close(closed)
		c.Ring.Close()
	}()
	c.cacher.Stop()
	<-closed
}

func (s *Storage) keyOf(o runtime.Object) (string, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return "", err
	}
	return s.Key(m.GetNamespace(), m.GetName()), nil
}

// attributesOrPlain does not fail: Attributes was tried when the object came in, and an event that
// the cache cannot take would be lost to all its watches.
func (s *Storage) attributesOrPlain(o runtime.Object) (labels.Set, fields.Set, error) {
	if l, f, err := s.Attributes(o); err == nil {
		return l, f, nil
	}
	return s.plainAttributes(o)
}

// noCodec is what the cacher wants to see and, above a storage that hands out objects, never uses.
type noCodec struct{}

func (noCodec) Encode(runtime.Object, io.Writer) error { return nil }
func (noCodec) Identifier() runtime.Identifier         { return "ring" }
func (noCodec) Decode([]byte, *schema.GroupVersionKind, runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	return nil, nil, errors.New("the ring has nothing encoded")
}
