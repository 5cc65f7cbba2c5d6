package registry

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
)

// shares bound how many of something are under way: in all, and a share of them for each
// user, so that none of them shuts out the others.
type shares struct {
	of            string
	most, perUser int

	mu    sync.Mutex
	all   int
	users map[string]int
}

func newShares(of string, most, perUser int) *shares {
	return &shares{of: of, most: most, perUser: perUser, users: map[string]int{}}
}

// take takes one for the user of a request. release gives it back, once.
func (s *shares) take(ctx context.Context) (release func(), err error) {
	name := ""
	if who, ok := genericapirequest.UserFrom(ctx); ok {
		name = who.GetName()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.users[name] >= s.perUser:
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf("%d of %s are under way for this user", s.perUser, s.of), busyRetry)
	case s.all >= s.most:
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf("%d of %s are under way", s.most, s.of), busyRetry)
	}
	s.all++
	s.users[name]++
	return sync.OnceFunc(func() { s.giveBack(name) }), nil
}

func (s *shares) giveBack(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.users[name]--; s.users[name] == 0 {
		delete(s.users, name)
	}
}
