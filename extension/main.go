package extension

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// Main runs a server as a program, and exits: with 0 after a stop by SIGTERM or SIGINT,
// with 1 if it could not serve, with 2 for wrong flags. A second signal ends it at once.
// name is that of its Service. Its log goes to standard error. --help lists its flags.
//
// The process being its own, it sets what a process has once: how much klog logs,
// controller-runtime's logger, and the feature gate CBORServingAndStorage, by which clients
// may ask for CBOR.
func Main(name string, parts ...Part) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal finds nobody who catches it
	err := run(ctx, name, os.Args[1:], os.Stderr, ownProcess, parts...)
	stop()
	klog.Flush()
	switch {
	case err == nil, errors.Is(err, pflag.ErrHelp):
		os.Exit(0)
	case errors.As(err, new(usageError)):
		fmt.Fprintf(os.Stderr, "%s: %v\nRun %s --help for its flags.\n", name, err, filepath.Base(os.Args[0]))
		os.Exit(2)
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	os.Exit(1)
}

// ownProcess sets what is the whole process'.
func ownProcess(o *options) error {
	level := klog.Level(0)
	if err := level.Set(strconv.Itoa(o.verbosity)); err != nil {
		return fmt.Errorf("set how much is logged: %w", err)
	}
	log.SetLogger(klog.Background()) // controller-runtime's, which complains without it
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{string(features.CBORServingAndStorage): true}); err != nil {
		return fmt.Errorf("have clients ask for CBOR: %w", err)
	}
	return nil
}

// usageError is what a user has to say otherwise.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Run is Main without the process: it runs a server as the arguments say until ctx ends.
// Help goes to out. What a process has once it leaves alone, so that -v says nothing.
func Run(ctx context.Context, name string, arguments []string, out io.Writer, parts ...Part) error {
	return run(ctx, name, arguments, out, func(*options) error { return nil }, parts...)
}

func run(ctx context.Context, name string, arguments []string, out io.Writer, process func(*options) error, parts ...Part) error {
	o := defaultOptions(name)
	flags := o.flags(name)
	flags.SetOutput(out)
	flags.Usage = func() { o.usage(name, flags, out) }
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("%q is an argument, and there are only flags", flags.Arg(0))}
	}
	o.setDefaults(flags)
	if err := o.validate(); err != nil {
		return usageError{err}
	}
	if err := process(o); err != nil {
		return err
	}
	if o.controllersOnly {
		return o.runControllers(ctx, name, parts)
	}
	if o.withoutControllers {
		parts = slices.DeleteFunc(slices.Clone(parts), isController)
	}
	return o.serve(ctx, name, parts)
}

// serve runs the server, with its controllers.
func (o *options) serve(ctx context.Context, name string, parts []Part) error {
	c, err := o.config(name)
	if err != nil {
		return err
	}
	s, err := New(ctx, c, parts...)
	if err != nil {
		return err
	}
	if o.standalone != "" {
		if err := o.writeKubeconfig(c, s); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	var announced sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	announced.Go(func() {
		select {
		case <-s.Ready():
			o.begin(c)
			c.Log.Info("Serving", "address", s.Address().String())
		case <-ctx.Done():
		}
	})
	err = s.Run(ctx)
	cancel()
	announced.Wait()
	return err
}

// runControllers runs the controllers alone.
func (o *options) runControllers(ctx context.Context, name string, parts []Part) error {
	c := o.common(name)
	if err := o.trust(&c); err != nil {
		return err
	}
	run, err := NewControllers(c, parts...)
	if err != nil {
		return err
	}
	return run.Run(ctx)
}

// begin lets clients in where they had to wait for readiness, and tells the parent of it.
func (o *options) begin(c Config) {
	if l, ok := c.Listener.(*sharedListener); ok {
		l.open()
	}
	if o.readyFD != 0 {
		if err := tellReady(o.readyFD); err != nil {
			c.Log.Error(err, "The parent is not told that this server is ready")
		}
	}
}
