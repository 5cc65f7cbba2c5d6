package registry

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/storagebackend"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/store"
	"github.com/annex-api/annex/extension/internal/versions"
	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/kine/memory"
)

// cog is a hub; its spoke, oldCog, has another name for its spec and says less.
type cog struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              cogSpec           `json:"spec,omitempty"`
	Template          metav1.ObjectMeta `json:"template,omitempty"` // no object's own metadata
	Status            cogStatus         `json:"status,omitempty"`
}

type cogSpec struct {
	Text   string `json:"text,omitempty"`
	Teeth  int64  `json:"teeth,omitempty"`
	Hidden int64  `json:"hidden,omitempty"`
}

type cogStatus struct {
	Teeth    int64  `json:"teeth,omitempty"`
	Selector string `json:"selector,omitempty"`
}

type oldCog struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Settings          oldSettings `json:"settings,omitempty"`
	Status            cogStatus   `json:"status,omitempty"`
}

type oldSettings struct {
	Text  string `json:"text,omitempty"`
	Count int64  `json:"count,omitempty"`
}

func deep[T any](in *T) *T {
	data, err := json.Marshal(in)
	if err != nil {
		panic(err)
	}
	out := new(T)
	if err := json.Unmarshal(data, out); err != nil {
		panic(err)
	}
	return out
}

func (c *cog) DeepCopyObject() runtime.Object    { return deep(c) }
func (c *cog) DeepCopyInto(out *cog)             { *out = *deep(c) }
func (c *oldCog) DeepCopyObject() runtime.Object { return deep(c) }
func (c *oldCog) DeepCopyInto(out *oldCog)       { *out = *deep(c) }

const cogGroup = "cogs.example.com"

func cogs(change ...func(*kind.Kind)) *kind.Kind {
	k := &kind.Kind{
		Hub:   schema.GroupVersion{Group: cogGroup, Version: "v1"},
		Names: kind.Names{Kind: "Cog", List: "CogList", Plural: "cogs", Singular: "cog"},
		New:   func() runtime.Object { return &cog{} }, NewList: func() runtime.Object { return &kind.List[cog]{} },
		StorageVersion: "v1", Status: &kind.StatusHooks{},
		Scale: &kind.Scale{SpecReplicas: ".spec.teeth", StatusReplicas: ".status.teeth", Selector: ".status.selector"},
		Spokes: []kind.Spoke{{
			Version: "v1beta1", Replicas: ".settings.count",
			New: func() runtime.Object { return &oldCog{} }, NewList: func() runtime.Object { return &kind.List[oldCog]{} },
			ToHub: func(from, to runtime.Object) error {
				in, out := from.(*oldCog), to.(*cog)
				out.Spec, out.Status = cogSpec{Text: in.Settings.Text, Teeth: in.Settings.Count}, in.Status
				return nil
			},
			FromHub: func(from, to runtime.Object) error {
				in, out := from.(*cog), to.(*oldCog)
				out.Settings, out.Status = oldSettings{in.Spec.Text, in.Spec.Teeth}, in.Status
				return nil
			},
		}},
		Subresources: []kind.Subresource{
			{Name: "words", Update: &kind.Update{Fields: []string{".spec.text"}}},
		},
	}
	for _, f := range change {
		f(k)
	}
	return k
}

// requested is the context of a request through a version.
func requested(t *testing.T, version string) context.Context {
	ctx := request.WithNamespace(t.Context(), "")
	return request.WithRequestInfo(ctx, &request.RequestInfo{IsResourceRequest: true, APIGroup: cogGroup, APIVersion: version, Resource: "cogs"})
}

func strategyFor(t *testing.T, k *kind.Kind) strategy {
	t.Helper()
	scheme, err := versions.Scheme(k)
	if err != nil {
		t.Fatal(err)
	}
	s, err := StrategyOf(k, scheme)
	if err != nil {
		t.Fatal(err)
	}
	return s.(strategy)
}

// opened serves a kind over a memory of its own.
func opened(t *testing.T, k *kind.Kind) map[string]rest.Storage {
	t.Helper()
	scheme, err := versions.Scheme(k)
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := storage.Open(t.Context(), "memory://", logr.Discard(), memory.Driver())
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), endpoint)
	if err != nil {
		t.Fatal(err)
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 2*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return s.Ready() == nil, nil
	}); err != nil {
		t.Fatalf("the storage does not open: %v", s.Ready())
	}
	backend := storagebackend.NewDefaultConfig("/registry/test", versions.StorageCodec(scheme, serializer.NewCodecFactory(scheme), k))
	backend.EncodeVersioner = schema.GroupVersion{Group: k.Hub.Group, Version: k.StorageVersion}
	out, err := New(k, Options{Scheme: scheme, Sessions: NewSessions(), Storage: generic.RESTOptions{
		StorageConfig: backend.ForResource(k.Resource()), Decorator: s.Decorator(), ResourcePrefix: "/cogs", EnableGarbageCollection: true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, storage := range out {
			storage.Destroy()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return out
}
