package extension

import (
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/annex-api/annex/extension/internal/kind"
)

// SpokeOf is another version of the hub type T. [Spoke] makes one.
type SpokeOf[T any] struct {
	version      string
	example      any // *S
	list         func() runtime.Object
	toHub        func(from, to any) error
	fromHub      func(from, to any) error
	deprecated   string
	notServed    bool
	newFromSpoke func() any
}

// Spoke serves the type S as a version beside the hub. Metadata is copied; toHub and
// fromHub fill the rest of an empty object, and must lose nothing that both types can
// say: extensiontest.RoundTrip finds out. They must not change from. What only the hub
// can say survives a write through S: it is kept from the stored object. The items of a
// list are found again by the schema's +listMapKey, or else by name, type, key or id. Where
// there is none of these, an item that is changed through S loses what S cannot say of it.
func Spoke[S, T any](version string, toHub func(from *S, to *T) error, fromHub func(from *T, to *S) error, options ...SpokeOption) SpokeOf[T] {
	s := SpokeOf[T]{
		version:      version,
		example:      new(S),
		list:         func() runtime.Object { return &kind.List[S]{} },
		toHub:        func(from, to any) error { return toHub(from.(*S), to.(*T)) },
		fromHub:      func(from, to any) error { return fromHub(from.(*T), to.(*S)) },
		newFromSpoke: func() any { return new(S) },
	}
	for _, o := range options {
		switch o.kind {
		case deprecated:
			s.deprecated = o.text
		case notServed:
			s.notServed = true
		}
	}
	return s
}

// SpokeOption changes how a version is served.
type SpokeOption struct {
	kind spokeOption
	text string
}

type spokeOption int

const (
	deprecated spokeOption = iota
	notServed
)

// Deprecated makes every answer of the version carry the warning.
func Deprecated(warning string) SpokeOption { return SpokeOption{deprecated, warning} }

// NotServed keeps a version readable in storage without serving it.
func NotServed() SpokeOption { return SpokeOption{kind: notServed} }

// Versions is a list of spokes; it lets the compiler infer T.
func Versions[T any](spokes ...SpokeOf[T]) []SpokeOf[T] { return spokes }
