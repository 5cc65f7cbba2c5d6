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

// requestContext is the context of one request: one value in place of one for each
// filter. Filters of k8s.io/apiserver find in it what theirs would have put
// there.
type requestContext struct {
	context.Context // with the request's deadline

	info        *request.RequestInfo
	received    time.Time
	longRunning bool
	closing     bool // the connection, after this request
	audit       audit.AuditContext
	shutdown    request.ServerShutdownSignal // of watches
	warnings    warnings
	writer      deadlineWriter

	// filter is the one that runs, and since when it does.
	filter  string
	started time.Time
}

type requestContextKey struct{}

// Value implements context.Context.
func (rc *requestContext) Value(key any) any {
	switch key {
	case requestContextKey{}:
		return rc
	case infoKey:
		return rc.info
	case auditKey:
		return &rc.audit
	case receivedKey:
		return rc.received
	case warningKey:
		return &rc.warnings
	case shutdownKey:
		if rc.shutdown == nil {
			return nil
		}
		return rc.shutdown
	}
	return rc.Context.Value(key)
}

func contextOf(r *http.Request) *requestContext {
	return r.Context().Value(requestContextKey{}).(*requestContext)
}

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
