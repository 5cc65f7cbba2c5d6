package certs

import (
	"context"
	"time"
)

const (
	// checkEvery bounds the wait for a renewal, since a timer stands still while a machine sleeps.
	checkEvery = time.Hour
	// retryAfter follows a failed renewal; a third of the certificate's life is left to succeed in.
	retryAfter = time.Minute
)

// Run renews certificates as they fall due, until ctx ends. report, which may be nil, is told the
// files that were written, and errors, after which Run tries again.
func (s *Store) Run(ctx context.Context, report func(written []string, err error)) {
	wait := checkEvery
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		written, err := s.Renew()
		wait = checkEvery
		if err != nil {
			wait = retryAfter
		}
		if report != nil && (len(written) > 0 || err != nil) {
			report(written, err)
		}
	}
}
