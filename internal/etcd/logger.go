package etcd

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// fatalHook replaces the exit of the process that etcd asks of its logger.
type fatalHook struct {
	running  atomic.Bool
	stopping atomic.Bool
	onFatal  func(error)
}

// fatalError is what the hook panics with.
type fatalError struct{ error }

// noSpaceError is a full disk or quota.
type noSpaceError struct{ error }

// OnWrite never returns, as etcd does not expect it to.
func (h *fatalHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(entry.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("%s: %w", entry.Message, cause)
		}
	}
	if h.running.Load() && h.onFatal != nil {
		err := fmt.Errorf("embedded etcd cannot go on: %w", err)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w; free some space and start again", err)
		}
		h.onFatal(err)
	}
	panic(fatalError{err})
}

func newLogger(w io.Writer, hook *fatalHook) *zap.Logger {
	cfg := zap.NewProductionEncoderConfig()
	cfg.EncodeTime = zapcore.RFC3339TimeEncoder
	core := zapcore.NewCore(zapcore.NewJSONEncoder(cfg), zapcore.Lock(zapcore.AddSync(w)), zapcore.WarnLevel)
	return zap.New(filteredCore{core, hook}, zap.WithFatalHook(hook), zap.WithPanicHook(hook))
}

// filteredCore leaves out what is no news: warnings about a choice that is right for a lone member behind
// a private socket, and what every listener says as it is closed.
type filteredCore struct {
	zapcore.Core
	hook *fatalHook
}

func (f filteredCore) With(fields []zapcore.Field) zapcore.Core {
	return filteredCore{f.Core.With(fields), f.hook}
}

func (f filteredCore) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Level <= zapcore.ErrorLevel && f.hook.stopping.Load() {
		return c
	}
	switch e.Message {
	case "simple token is not cryptographically signed",
		"Running http and grpc server on single port. This is not recommended for production.":
		return c
	}
	if !f.Enabled(e.Level) {
		return c
	}
	return c.AddCore(e, f)
}

// untilCommitted is what etcd says of a new database until its first commit, and then no more: it looks
// again every four seconds (server/storage/schema, DetectSchemaVersion).
const untilCommitted = "missing term information"

func (f filteredCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	for _, field := range fields {
		if cause, ok := field.Interface.(error); ok && strings.HasSuffix(cause.Error(), untilCommitted) {
			return nil
		}
	}
	return f.Core.Write(e, fields)
}

// recoverAs is deferred: it turns a panic, a read beyond a truncated memory map included, into an
// error. The goroutine must have called debug.SetPanicOnFault for the latter.
func recoverAs(err *error) {
	p := recover()
	if p == nil {
		return
	}
	switch v := p.(type) {
	case fatalError:
		*err = v.error
	case error:
		*err = v
	default:
		*err = fmt.Errorf("%v", v)
	}
	if errors.Is(*err, syscall.ENOSPC) || errors.Is(*err, syscall.EDQUOT) {
		*err = &noSpaceError{*err}
	}
}

func faultsArePanics() { debug.SetPanicOnFault(true) }
