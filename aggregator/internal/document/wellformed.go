// Package document reads documents of extension servers within bounds.
//
// Libraries recurse without a bound of their own, follow references without
// an end, and panic on what they did not expect. So what another party wrote
// passes through here first: WellFormed before anything decodes it, ReadV2 or
// ReadV3 before anything follows its references, Guarded around what a library
// then does with it.
package document

import (
	"encoding/json"
	"errors"
	"fmt"
)

// maxNesting of a document. Those of Kubernetes have some 30 levels.
const maxNesting = 500

// WellFormed refuses what is not JSON, is nested too deeply, or holds more than
// maxValues objects and arrays: a value of two bytes takes a thousand times that
// when it is decoded.
func WellFormed(data []byte, maxValues int) error {
	depth, values, quoted := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			if depth++; depth > maxNesting {
				return fmt.Errorf("nested more than %d levels deep", maxNesting)
			}
			if values++; values > maxValues {
				return fmt.Errorf("more than %d objects and arrays", maxValues)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	if !json.Valid(data) {
		return errors.New("not JSON")
	}
	return nil
}

// Guarded turns a panic of f into an error. It does not help against a stack
// that grows without end: nothing can.
func Guarded[T any](f func() (T, error)) (out T, err error) {
	defer func() {
		if r := recover(); r != nil {
			var none T
			out, err = none, fmt.Errorf("panic: %v", r)
		}
	}()
	return f()
}
