package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	restclient "k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/extension/internal/inprocess"
)

const (
	// drainTimeout bounds the end of connections after a stop, once no request is under way.
	drainTimeout = 5 * time.Second
	// readyPoll is the pause between the first promptLooks at /readyz, which take about a
	// second. Then it doubles up to slowReadyPoll.
	readyPoll     = 5 * time.Millisecond
	promptLooks   = 200
	slowReadyPoll = time.Second
)

// Background is something that runs until its context ends. An error of it before that
// ends the server.
type Background func(context.Context) error

// Beside is what runs beside a server, by when it is stopped.
type Beside struct {
	// Callers call the server: they are stopped while it still answers.
	Callers []Background
	// Sources are what its answers are made of: they are stopped after it.
	Sources []Background
}

// Run serves until ctx ends, and then stops gracefully. It withdraws readiness, and stops
// the callers while others learn of it. Then it ends actions, streams and watches,
// finishes requests, stops the sources, and closes the storage. It is called once.
func (s *Server) Run(ctx context.Context, beside Beside) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default: // the first one tells enough
		}
		stop()
	}
	endSources := begin(ctx, fail, append(s.views, beside.Sources...))
	defer endSources()
	endCallers := begin(ctx, fail, beside.Callers)
	defer endCallers()
	if err := s.generic.AddPreShutdownHook("end-sessions", func() error {
		s.leave(ctx, endCallers)
		return nil
	}); err != nil {
		return fmt.Errorf("prepare the stop: %w", err)
	}
	err := s.serve(ctx)
	endCallers()
	endSources()
	if s.storage != nil {
		err = errors.Join(err, s.storage.Close())
	}
	if err != nil {
		err = fmt.Errorf("serve: %w", err)
	}
	select {
	case cause := <-failed:
		return errors.Join(cause, err)
	default:
		return err
	}
}

// begin starts what runs beside a server, and gives what ends it and waits for it. It
// does not end with ctx.
func begin(ctx context.Context, fail func(error), all []Background) (end func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	for _, run := range all {
		running.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				fail(err)
			}
		})
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// leave is the part of a stop in which readiness is withdrawn and everything is still
// served: those who call here learn that they should not, and what takes as long as it
// takes is ended.
func (s *Server) leave(ctx context.Context, endCallers func()) {
	delay := time.NewTimer(s.stopDelay)
	defer delay.Stop()
	endCallers()
	<-delay.C
	if left := s.sessions.End(s.drain); left > 0 {
		klog.FromContext(ctx).Error(nil, "Actions or streams do not end, though their contexts did and their connections are broken off", "number", left)
	}
}

func (s *Server) serve(ctx context.Context) error {
	internal := &http.Server{Handler: s.generic.Handler, ConnContext: inprocess.ConnContext, ReadHeaderTimeout: time.Minute}
	var group sync.WaitGroup
	group.Go(func() { _ = internal.Serve(s.listener) }) // it ends with an error whenever it is closed
	polling, stop := context.WithCancel(ctx)
	group.Go(func() { s.announce(polling) })
	err := s.prepared.RunWithContext(ctx)
	stop()
	drained, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if internal.Shutdown(drained) != nil {
		_ = internal.Close()
	}
	_ = s.listener.Close()
	group.Wait()
	return err
}

// announce closes ready once the server calls itself so.
func (s *Server) announce(ctx context.Context) {
	config, err := s.As(&user.DefaultInfo{Name: user.APIServerUser, Groups: []string{user.SystemPrivilegedGroup}})
	if err != nil {
		return
	}
	client, err := restclient.HTTPClientFor(config)
	if err != nil {
		return
	}
	defer client.CloseIdleConnections()
	for asked := 0; ; asked++ {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/readyz", nil)
		if err != nil {
			return
		}
		if response, err := client.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				close(s.ready)
				return
			}
		}
		timer := time.NewTimer(readyPause(asked))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// readyPause is the pause after so many looks at /readyz. A start takes less than a
// second; whatever takes longer, such as a storage that is away, is not helped by asking.
func readyPause(asked int) time.Duration {
	if asked < promptLooks {
		return readyPoll
	}
	return min(readyPoll<<min(asked-promptLooks+1, 10), slowReadyPoll)
}
