package watchcache

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/storage/storagebackend"
)

func code(d generic.StorageDecorator) uintptr { return reflect.ValueOf(d).Pointer() }

// The decorator is known by its name: should that change, this test says so.
func TestAlignTakesTheCachesOfTheServersOptions(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	get := func(o options.EtcdOptions) generic.RESTOptions {
		t.Helper()
		getter := Align(&options.StorageFactoryRestOptionsFactory{
			Options:        o,
			StorageFactory: &options.SimpleStorageFactory{StorageConfig: storagebackend.Config{}},
		})
		if Align(getter) != getter {
			t.Error("aligned twice")
		}
		got, err := getter.GetRESTOptions(pods, &corev1.Pod{})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for name, c := range map[string]struct {
		options options.EtcdOptions
		want    generic.StorageDecorator
	}{
		"with watch caches":          {options.EtcdOptions{EnableWatchCache: true}, decorate},
		"without watch caches":       {options.EtcdOptions{}, generic.UndecoratedStorage},
		"without one for a resource": {options.EtcdOptions{EnableWatchCache: true, WatchCacheSizes: []string{"pods#0"}}, generic.UndecoratedStorage},
	} {
		if got := get(c.options); code(got.Decorator) != code(c.want) {
			t.Errorf("%s: another decorator", name)
		}
	}
	if Align(nil) != nil {
		t.Error("nothing became something")
	}
}
