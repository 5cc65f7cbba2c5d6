package handlerchain

import (
	"context"
	"net/http"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/warning"
)

// scope is the context of one request: one value in place of one for each
// filter. Filters of k8s.io/apiserver find in it what theirs would have put
// there.
type scope struct {
	context.Context // with the request's deadline

	info        *request.RequestInfo
	received    time.Time
	longRunning bool
	closing     bool // the connection, after this request
	values      [4]string
	audit       audit.AuditContext
	shutdown    request.ServerShutdownSignal // of watches
	warnings    warnings
	writer      deadlineWriter

	// filter is the one that runs, and since when it does.
	filter  string
	started time.Time
}

type scopeKey struct{}

// Value implements context.Context.
func (s *scope) Value(key any) any {
	switch key {
	case scopeKey{}:
		return s
	case infoKey:
		return s.info
	case auditKey:
		return &s.audit
	case receivedKey:
		return s.received
	case warningKey:
		return &s.warnings
	case shutdownKey:
		if s.shutdown == nil {
			return nil
		}
		return s.shutdown
	}
	return s.Context.Value(key)
}

func scopeOf(r *http.Request) *scope { return r.Context().Value(scopeKey{}).(*scope) }

// warnings makes k8s.io/apiserver's recorder when there is a first warning:
// few requests have one.
type warnings struct {
	writer http.ResponseWriter
	once   sync.Once
	record warning.Recorder
}

// AddWarning implements warning.Recorder.
func (w *warnings) AddWarning(agent, text string) {
	w.once.Do(func() {
		take := func(_ http.ResponseWriter, r *http.Request) {
			w.record = r.Context().Value(warningKey).(warning.Recorder)
		}
		filters.WithWarningRecorder(http.HandlerFunc(take)).ServeHTTP(w.writer, new(http.Request))
	})
	w.record.AddWarning(agent, text)
}
