package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/devloop"
	"github.com/annex-api/annex/internal/etcd"
	"github.com/annex-api/annex/internal/etcd/datadir"
)

// run starts what a server needs, then the loop, and undoes it in reverse: servers, registration,
// host, etcd.
func (o *Options) run(ctx context.Context) (err error) {
	storage, ownEtcd := o.Storage, false
	if scheme, _, _ := strings.Cut(storage, "://"); storage == "" || scheme == "memory" || scheme == "embedded" {
		ownEtcd = true
	}
	p, err := find(ctx, o.Folder, o.Package, ownEtcd)
	if err != nil {
		return err
	}
	undo := func(f func() error) { err = errors.Join(err, f()) }
	dir, err := datadir.Claim(p.state())
	if err != nil {
		return err
	}
	defer undo(dir.Release)
	defer undo(p.clear)
	if err := p.prepare(); err != nil {
		return err
	}
	lines := terminal.NewLines(o.IO.Out, len("server 10"))
	own := lines.From("dev", terminal.Green, nil)
	defer own.Close()
	w := &workshop{project: p, lines: lines, own: own, colour: terminal.HasColour(o.IO.Out), served: func() {}}

	if ownEtcd {
		if storage != "" {
			w.Say(false, "two servers cannot share "+storage+": an etcd in "+p.state("etcd")+" takes its place")
		}
		log := lines.From("etcd", terminal.Magenta, o.fromEtcd)
		member, err := etcd.Launch(etcd.Options{Dir: p.state("etcd"), Log: log, OnFatal: o.Fatal})
		if err != nil {
			return err
		}
		defer undo(member.Stop)
		storage = "etcd://" + strings.TrimPrefix(member.Endpoint(), "unix://")
	}
	socket, address, err := listen(ctx, o.Port)
	if err != nil {
		return err
	}
	defer undo(socket.Close)
	w.socket = socket

	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel(nil)
	if o.Standalone {
		w.args = []string{"--standalone=" + p.state("standalone")}
		w.served = sync.OnceFunc(func() { w.Say(false, "export KUBECONFIG="+p.state("standalone", "kubeconfig")) })
	} else {
		h, err := o.openHost(ctx, p, lines)
		if err != nil {
			return err
		}
		defer undo(h.close)
		if err := h.expose(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		h.answered.Store(true)
		w.args = h.args(p, address)
		beside.Go(func() {
			select {
			case <-h.process.Ended():
				cancel(fmt.Errorf("the host ended (%v)", h.process.Err()))
			case <-running.Done():
			}
		})
		w.served = sync.OnceFunc(func() { beside.Go(func() { w.sayAvailable(running, h) }) })
	}
	w.args = append(w.args, "--storage="+storage, "--drain=1s")
	w.args = append(w.args, o.ServerArgs...)

	watching, stopWatching := context.WithCancel(running)
	changed, watched := devloop.Watch(watching, p.module)
	defer func() { stopWatching(); <-watched }()
	w.Say(false, "building "+p.pkg)
	err = devloop.Loop{Project: w, Saved: changed}.Run(running)
	if cause := context.Cause(running); ctx.Err() == nil && cause != nil {
		return errors.Join(cause, err)
	}
	return err
}

// sayAvailable tells once that the host serves the project's API.
func (w *workshop) sayAvailable(ctx context.Context, h *host) {
	names, err := h.available(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		w.Say(true, err.Error())
	default:
		w.Say(false, "the host serves "+strings.Join(names, ", ")+"\nexport KUBECONFIG="+h.kubeconfig)
	}
}

// Build builds the project.
func (w *workshop) Build(ctx context.Context) (string, error) { return w.build(ctx) }

// Say puts a text among the lines.
func (w *workshop) Say(bad bool, text string) {
	if bad && w.colour {
		text = terminal.Red + strings.ReplaceAll(text, "\n", "\x1b[0m\n"+terminal.Red) + "\x1b[0m"
	}
	_, _ = io.WriteString(w.own, text+"\n") // a lost line is no reason to stop a server
}
