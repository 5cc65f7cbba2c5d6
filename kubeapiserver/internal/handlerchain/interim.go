package handlerchain

import (
	"context"
	"maps"
	"net/http"
)

// Interim returns how an interim answer (1xx) is sent to the client of a request of this
// chain, past the filters: they would take its status for that of the answer. It is nil
// for requests of the usual chain, whose timeout filter may answer at the same time.
func Interim(ctx context.Context) func(code int, header http.Header) {
	rc, ok := ctx.Value(requestContextKey{}).(*requestContext)
	if !ok {
		return nil
	}
	return rc.sendInterim
}

func (rc *requestContext) sendInterim(code int, header http.Header) {
	if rc.Err() != nil || rc.writer.begun || rc.writer.over {
		return
	}
	w := rc.writer.ResponseWriter
	h := w.Header()
	before := maps.Clone(h)
	clear(h)
	maps.Copy(h, header)
	w.WriteHeader(code)
	clear(h)
	maps.Copy(h, before)
}
