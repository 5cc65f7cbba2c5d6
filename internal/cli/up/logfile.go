package up

import (
	"sync"

	"gopkg.in/natefinch/lumberjack.v2"
)

// maxLogMiB bounds a log; one older file of this size is kept.
const maxLogMiB = 64

// logFile is a bounded log. What is written after Close is dropped: a logger that outlives the
// command must not bring a removed directory back.
type logFile struct {
	mu     sync.Mutex
	file   *lumberjack.Logger
	closed bool
}

func newLogFile(path string) *logFile {
	return &logFile{file: &lumberjack.Logger{Filename: path, MaxSize: maxLogMiB, MaxBackups: 1}}
}

// Write holds the lock while it writes, for Close to be final.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(p), nil
	}
	return l.file.Write(p)
}

func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.file.Close()
}
