package etcd

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Who has a full disk is told what to do about it.
func TestAFullDiskIsNamedWithItsRemedy(t *testing.T) {
	var told error
	hook := &fatalHook{onFatal: func(err error) { told = err }}
	hook.running.Store(true)
	func() {
		defer func() {
			if _, ok := recover().(fatalError); !ok {
				t.Error("etcd goes on")
			}
		}()
		hook.OnWrite(&zapcore.CheckedEntry{Entry: zapcore.Entry{Message: "failed to commit tx"}},
			[]zapcore.Field{zap.Error(&os.PathError{Op: "write", Path: "/data/db", Err: syscall.ENOSPC})})
	}()
	if told == nil || !strings.Contains(told.Error(), "/data/db: no space left on device; free some space") {
		t.Errorf("told %v", told)
	}
}
