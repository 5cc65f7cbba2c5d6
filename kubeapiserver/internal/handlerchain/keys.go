package handlerchain

import (
	"context"

	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/warning"
)

// Keys under which accessors of k8s.io/apiserver look into a context. They are
// not exported there; an accessor tells its key to the context that it asks.
var (
	infoKey     = keyOf(func(c context.Context) { request.RequestInfoFrom(c) })
	receivedKey = keyOf(func(c context.Context) { request.ReceivedTimestampFrom(c) })
	auditKey    = keyOf(func(c context.Context) { audit.AuditContextFrom(c) })
	warningKey  = keyOf(func(c context.Context) { warning.AddWarning(c, "", "") })
	shutdownKey = keyOf(func(c context.Context) { request.ServerShutdownSignalFrom(c) })
)

// keyOf returns the first key that read asks for.
func keyOf(read func(context.Context)) any {
	asked := asking{Context: context.Background(), key: new(any)}
	read(asked)
	if *asked.key == nil {
		panic("an accessor asked its context for nothing") // cannot be: a test of this package would fail
	}
	return *asked.key
}

type asking struct {
	context.Context
	key *any
}

func (a asking) Value(key any) any {
	if *a.key == nil {
		*a.key = key
	}
	return nil
}
