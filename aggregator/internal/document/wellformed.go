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
	"strings"
)

// maxNesting of a document. Those of Kubernetes have some 30 levels.
const maxNesting = 500

// WellFormed refuses what is not JSON, is nested too deeply, or holds more than
// maxTokens objects, arrays, keys and scalars: a value of two bytes takes up to
// a thousand times that when it is decoded.
func WellFormed(data []byte, maxTokens int) error {
	_, err := Tokens(data, maxTokens)
	return err
}

// Tokens is WellFormed, and says how many there are.
func Tokens(data []byte, maxTokens int) (tokens int, err error) {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			continue
		case '}', ']':
			depth--
			continue
		case '{', '[':
			if depth++; depth > maxNesting {
				return tokens, fmt.Errorf("nested more than %d levels deep", maxNesting)
			}
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		default: // a number, true, false or null
			for i+1 < len(data) && strings.IndexByte(" \t\r\n,:{}[]\"", data[i+1]) < 0 {
				i++
			}
		}
		if tokens++; tokens > maxTokens {
			return tokens, fmt.Errorf("more than %d objects, arrays, keys and scalars", maxTokens)
		}
	}
	if !json.Valid(data) {
		return tokens, errors.New("not JSON")
	}
	return tokens, nil
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
