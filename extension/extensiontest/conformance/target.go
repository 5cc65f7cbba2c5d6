package conformance

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// Target says what is checked, and what the kit may use for it. Config and Resource are required.
type Target struct {
	// Config leads to the API server, as a user who may do everything with the resource, and
	// create and delete namespaces.
	Config *rest.Config
	// Resource is what is checked.
	Resource schema.GroupVersionResource

	// Sample is an object that can be created; its name and namespace are ignored. Nil: one is made
	// from the OpenAPI schema.
	Sample *unstructured.Unstructured
	// Change is the path of a field of a string, integer or boolean that may be changed: spec,
	// message. Nil: the first such field below spec or data.
	Change []string

	// Second leads to the same API server as a user who may see less.
	Second *rest.Config
	// Direct leads straight to the extension server, past the API server, without credentials.
	Direct *rest.Config
	// Stream is a connect subresource whose stream stays open.
	Stream Stream
	// Storage stops and starts what the server keeps its objects in.
	Storage Storage
	// Recovery is how long the server may take to come back after its storage is back, or to set its
	// caBundle again. Zero means a minute.
	Recovery time.Duration
	// Intrusive allows to change the APIService of the group version for a moment.
	Intrusive bool

	// Slow also runs the checks that take more than 10 seconds.
	Slow bool
	// Only and Skip choose checks by patterns of path.Match: "watch/*". Only empty: all.
	Only, Skip []string
	// Name is the prefix of all names; empty: "annex-conformance-" and five letters.
	Name string
}

// Stream is a long-running subresource: what `kubectl logs -f` or `kubectl exec` would use.
type Stream struct {
	// Path begins with a slash, or is a subresource of an object that the kit makes: "log?follow=true".
	Path string
	// WebSocket opens it by an upgrade.
	WebSocket bool
	// Open is for how long it must stay open; zero means 75 seconds.
	Open time.Duration
}

// Storage are commands on what is behind the server. Both return once it is done.
type Storage struct {
	Stop, Start func(context.Context) error
}

// defaultRecovery is how long a server may take to come back.
const defaultRecovery = time.Minute

func (t Target) recovery() time.Duration {
	if t.Recovery > 0 {
		return t.Recovery
	}
	return defaultRecovery
}

func (t Target) validate() error {
	var errs []error
	if t.Config == nil {
		errs = append(errs, errors.New("the target has no client configuration"))
	}
	if t.Resource.Version == "" || t.Resource.Resource == "" {
		errs = append(errs, fmt.Errorf("the target's resource %q needs a version and a name", t.Resource.String()))
	}
	for _, pattern := range slices.Concat(t.Only, t.Skip) {
		matches, err := path.Match(pattern, "")
		if err != nil {
			errs = append(errs, fmt.Errorf("the pattern %q of checks: %w", pattern, err))
			continue
		}
		if !matches && !slices.ContainsFunc(Checks(), func(c Check) bool { return matchesAny([]string{pattern}, c.ID) }) {
			errs = append(errs, fmt.Errorf("no check is called %q", pattern))
		}
	}
	return errors.Join(errs...)
}

// chosen says whether the target asks for a check.
func (t Target) chosen(c Check) bool {
	return (len(t.Only) == 0 || matchesAny(t.Only, c.ID)) && !matchesAny(t.Skip, c.ID)
}

func matchesAny(patterns []string, id string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, id)
		return ok && err == nil
	})
}
