package extension

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/annex-api/annex/extension/internal/kind"
)

// Subresource is a path below an object. [Update], [Action] and [Connect] make one.
type Subresource[T any] struct{ erased kind.Subresource }

// Sub is a list of subresources; it lets the compiler infer T.
func Sub[T any](s ...Subresource[T]) []Subresource[T] { return s }

// UpdateOf says what a subresource changes of an object of type T.
type UpdateOf[T any] struct {
	// Fields are the paths that it may change, such as ".spec.nodeName". All else of
	// what a client sends is as if it had not sent it, and who applies it does not own it.
	Fields []string
	// PrepareForUpdate may change obj once more, and ValidateUpdate refuse it. Either may
	// be nil.
	PrepareForUpdate func(ctx context.Context, obj, old *T)
	ValidateUpdate   func(ctx context.Context, obj, old *T) field.ErrorList
}

// Update is a subresource that changes a part of an object: get, put, patch and apply.
// Who may use it is not who may change the whole object.
func Update[T any](name string, u UpdateOf[T]) Subresource[T] {
	return Subresource[T]{kind.Subresource{Name: name, Update: &kind.Update{
		Fields:   u.Fields,
		Keep:     pair(u.PrepareForUpdate),
		Validate: pairOf(u.ValidateUpdate),
	}}}
}

// Action is something to be done with one object, by POST: In is the body, Out the
// answer, both JSON; nil is null. A body that In does not have is refused. An error of
// apimachinery's is sent as it is, any other as 500.
//
// It may take as long as client, server and host let it: this server does not limit it,
// and ctx ends with the request and when the server stops. A kube-apiserver in front ends
// any request but a watch after 60 s. Longer work is better an object that a controller
// works on.
func Action[T, In, Out any](name string, do func(ctx context.Context, obj *T, in *In) (*Out, error)) Subresource[T] {
	return Subresource[T]{kind.Subresource{Name: name, Action: &kind.Action{
		NewIn:  func() any { return new(In) },
		NewOut: func() any { return new(Out) },
		Do: func(ctx context.Context, obj runtime.Object, in any) (any, error) {
			out, err := do(ctx, any(obj).(*T), in.(*In))
			if err != nil {
				return nil, err
			}
			return out, nil
		},
	}}}
}

// Connect hands a request to a handler, for WebSocket, SPDY or any other stream. obj is
// loaded first: where there is none, the answer is 404. An error of serve is the answer.
// methods are GET and POST unless given. What follows the subresource in the path, and
// the query, are the handler's.
func Connect[T any](name string, serve func(ctx context.Context, obj *T) (http.Handler, error), methods ...string) Subresource[T] {
	if len(methods) == 0 {
		methods = []string{http.MethodGet, http.MethodPost}
	}
	return Subresource[T]{kind.Subresource{Name: name, Connect: &kind.Connect{
		Methods: methods,
		Serve: func(ctx context.Context, obj runtime.Object) (http.Handler, error) {
			return serve(ctx, any(obj).(*T))
		},
	}}}
}
