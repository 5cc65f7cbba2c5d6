package handlerchain

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// poll asks done every millisecond until it says yes, at most for limit.
func poll(ctx context.Context, limit time.Duration, done func() bool) bool {
	return wait.PollUntilContextTimeout(ctx, time.Millisecond, limit, true, func(context.Context) (bool, error) {
		return done(), nil
	}) == nil
}

// until polls for something to become true.
func until(ctx context.Context, done func() bool) bool {
	return poll(ctx, deadline, done)
}
