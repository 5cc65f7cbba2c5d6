package diagnosis

import (
	"errors"
	"fmt"
)

// Why something could not be seen. Gatherers wrap them, so that the message names what was asked.
var (
	// ErrNotAsked is the reason of the zero value.
	ErrNotAsked = errors.New("not asked")
	// ErrForbidden: the caller has no right to see it.
	ErrForbidden = errors.New("forbidden")
	// ErrTimedOut: no answer came in the time that there was.
	ErrTimedOut = errors.New("timed out")
	// ErrUnsupported: this cluster has no such thing, or no way to ask for it.
	ErrUnsupported = errors.New("not supported here")
)

// Known is a value that may not have been seen. The zero value was not asked for.
//
// What is known not to exist was seen: its Value is nil or empty, and Seen is true.
type Known[T any] struct {
	Value T
	// Seen says that Value is what there is.
	Seen bool
	// Err is why it was not seen; nil means [ErrNotAsked].
	Err error
}

// Saw is a value that was seen.
func Saw[T any](value T) Known[T] { return Known[T]{Value: value, Seen: true} }

// Unseen is a value that was not, and why.
func Unseen[T any](why error) Known[T] { return Known[T]{Err: why} }

// Look is what came of looking for a value: seen if err is nil.
func Look[T any](value T, err error) Known[T] {
	if err != nil {
		return Unseen[T](err)
	}
	return Saw(value)
}

// Get returns the value, and whether it was seen.
func (k Known[T]) Get() (T, bool) { return k.Value, k.Seen }

// Why is the reason that the value was not seen; nil if it was.
func (k Known[T]) Why() error {
	switch {
	case k.Seen:
		return nil
	case k.Err == nil:
		return ErrNotAsked
	}
	return k.Err
}

// String is the value as text, or why there is none.
func (k Known[T]) String() string {
	if err := k.Why(); err != nil {
		return "unknown (" + err.Error() + ")"
	}
	return fmt.Sprint(k.Value)
}
