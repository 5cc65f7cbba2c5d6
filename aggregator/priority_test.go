package aggregator

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/annex-api/annex/aggregator/internal/backend/limit"
)

// The host's word counts; without it system:masters are exempt.
func TestPriorityOfARequest(t *testing.T) {
	a, err := New(Config{Source: NewStaticSource(State{})})
	if err != nil {
		t.Fatal(err)
	}
	other, err := New(Config{Source: NewStaticSource(State{})})
	if err != nil {
		t.Fatal(err)
	}
	const untold = Priority(-1)
	for _, c := range []struct {
		groups []string
		told   Priority
		want   limit.Priority
	}{
		{nil, untold, limit.Ordinary},
		{[]string{"developers"}, untold, limit.Ordinary},
		{[]string{"developers", user.SystemPrivilegedGroup}, untold, limit.Exempt},
		{nil, High, limit.High},
		{nil, Exempt, limit.Exempt},
		{[]string{user.SystemPrivilegedGroup}, Ordinary, limit.Ordinary},
		{[]string{user.SystemPrivilegedGroup}, High, limit.High},
	} {
		r := a.WithRoute(httptest.NewRequest(http.MethodGet, "/apis/a.example/v1", nil))
		ctx := request.WithUser(r.Context(), &user.DefaultInfo{Name: "somebody", Groups: c.groups})
		other.SetPriority(ctx, Exempt) // another layer's request this is not
		if c.told != untold {
			a.SetPriority(ctx, c.told)
		}
		if got := a.decided(ctx, r.URL.Path).priorityOf(ctx); got != c.want {
			t.Errorf("of groups %q, told %d: %d, want %d", c.groups, c.told, got, c.want)
		}
	}
}
