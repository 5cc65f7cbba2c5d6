package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
)

// journal notes each request for an object when it reaches a handler: method
// and id, one line each. Lines are in the file before the request is answered,
// so they outlive a SIGKILL. A nil journal notes nothing.
type journal struct {
	file *os.File
}

// openJournal adds to a file, which is made if need be.
func openJournal(path string) (*journal, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	return &journal{file: file}, nil
}

func (j *journal) note(method, id string) error {
	if j == nil {
		return nil
	}
	line := method + " " + strings.Map(printable, id) + "\n"
	// One write to a file that is open for appending stays in one piece.
	_, err := j.file.WriteString(line)
	return err
}

func printable(r rune) rune {
	if r <= ' ' || r > '~' {
		return -1
	}
	return r
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	return j.file.Close()
}

// noting writes requests for objects to the journal.
func noting(j *journal, next http.Handler) http.Handler {
	if j == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/"+fixture.Resource) {
			if err := j.note(r.Method, r.Header.Get(fixture.IDHeader)); err != nil {
				http.Error(w, "the journal cannot be written", http.StatusInternalServerError)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// failing answers each request for an object with 503; discovery still works.
func failing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/"+fixture.Resource) {
			http.Error(w, "overloaded", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// create takes its time, so that faults strike in the middle of it.
func create(w http.ResponseWriter, r *http.Request, takes time.Duration, item []byte) {
	timer := time.NewTimer(takes)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	w.Write(item) // An error means that the client has left.
}
