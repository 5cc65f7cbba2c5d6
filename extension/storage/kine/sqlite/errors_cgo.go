//go:build cgo

package sqlite

import (
	"errors"

	"github.com/mattn/go-sqlite3"
)

func full(err error) bool { return codeOf(err) == sqlite3.ErrFull }

func refused(err error) bool {
	switch codeOf(err) {
	case sqlite3.ErrError, sqlite3.ErrConstraint, sqlite3.ErrMismatch, sqlite3.ErrTooBig:
		return true
	}
	return false
}

func codeOf(err error) sqlite3.ErrNo {
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code
}
