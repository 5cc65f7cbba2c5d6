package status

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	kubefake "k8s.io/client-go/kubernetes/fake"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
)

// servers is several servers over one API, which keeps an APIService and Leases.
type servers struct {
	t      *testing.T
	stored stored
	leases *kubefake.Clientset

	updating sync.Mutex // of a Lease: an update over an older version is a conflict
	version  int

	mu    sync.Mutex
	terms []term // of those who wrote conditions, in order
}

// term is a time in which one server alone wrote conditions.
type term struct {
	server      string
	first, last time.Time
}

func newServers(t *testing.T) *servers {
	return &servers{t: t, stored: newStored(t), leases: kubefake.NewClientset()}
}

// wrote takes note of a write of the condition.
func (s *servers) wrote(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if n := len(s.terms); n == 0 || s.terms[n-1].server != server {
		s.terms = append(s.terms, term{server, now, now})
	} else {
		s.terms[n-1].last = now
	}
}

// written returns the terms so far.
func (s *servers) written() []term {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.terms)
}

// expectTerms returns the terms so far, which have to be those of some servers.
func (s *servers) expectTerms(want ...string) []term {
	s.t.Helper()
	terms := s.written()
	var got []string
	for _, t := range terms {
		got = append(got, t.server)
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("conditions were written by %q in turn, want %q", got, want)
	}
	return terms
}

func (s *servers) lease() *coordinationv1.Lease {
	s.t.Helper()
	l, err := s.leases.CoordinationV1().Leases("kube-system").Get(context.Background(), "writer", metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

func (s *servers) holder() string {
	s.t.Helper()
	if h := s.lease().Spec.HolderIdentity; h != nil {
		return *h
	}
	return ""
}

// server is one of them, with a way to the Leases of its own.
type server struct {
	*servers
	name   string
	writer *Writer
	ended  chan struct{}
	cancel context.CancelFunc

	access   sync.Mutex
	reach    reach
	requests map[string]int // for Leases, by verb
	hold     chan struct{}  // closed when updates of Leases may go on; nil when they may
}

// reach is how requests for Leases end.
type reach int

const (
	answered reach = iota
	refused
	hanging // until their contexts end
)

// start starts a server. Until it ends it sees the APIService each second in
// another state of failure, so that the one that writes does so all the time.
func (s *servers) start(name string) *server {
	n := s.add(name, s.stored.client.ApiregistrationV1())
	go func() {
		for i := 0; ; i++ {
			select {
			case <-n.ended:
				return
			case <-time.After(time.Second):
			}
			v := down
			v.Message = fmt.Sprintf("failure %d seen by %s", i, name)
			n.writer.Sync(s.stored.snapshot(v))
		}
	}()
	return n
}

// add starts a server that is told nothing of the APIService.
func (s *servers) add(name string, client apiregistrationclient.APIServicesGetter) *server {
	ctx, cancel := context.WithCancel(context.Background())
	n := &server{servers: s, name: name, ended: make(chan struct{}), cancel: cancel, requests: map[string]int{}}
	n.writer = New(Config{
		Client: client, Leases: n, Namespace: "kube-system", Name: "writer", Identity: name, Server: name + ":6443",
		Observe: func(_, _ *apiregistrationv1.APIService) { s.wrote(name) },
	})
	n.writer.bounds = conditionBudget{} // these tests see by writes who may write
	go func() { defer close(n.ended); _ = n.writer.Run(ctx) }()
	s.t.Cleanup(n.stop)
	return n
}

// stop ends the server in order.
func (n *server) stop() {
	n.cancel()
	<-n.ended
}

// die ends the server as if its process were killed.
func (n *server) die() {
	n.set(refused)
	n.stop()
}

// set changes how requests for Leases end.
func (n *server) set(r reach) {
	n.access.Lock()
	defer n.access.Unlock()
	n.reach = r
}

// holdUpdates has updates of Leases hang, whatever their contexts say, until release
// is called.
func (n *server) holdUpdates() (release func()) {
	held := make(chan struct{})
	n.access.Lock()
	defer n.access.Unlock()
	n.hold = held
	return func() {
		n.access.Lock()
		defer n.access.Unlock()
		n.hold = nil
		close(held)
	}
}

// counted returns how many requests for Leases there were, by verb, and begins anew.
func (n *server) counted() map[string]int {
	n.access.Lock()
	defer n.access.Unlock()
	defer clear(n.requests)
	return maps.Clone(n.requests)
}

// request says whether a request gets through.
func (n *server) request(ctx context.Context, verb string) error {
	n.access.Lock()
	n.requests[verb]++
	reach, hold := n.reach, n.hold
	n.access.Unlock()
	if verb == "update" && hold != nil {
		<-hold
	}
	switch {
	case reach == hanging:
		<-ctx.Done()
		return ctx.Err()
	case reach == refused:
		return errors.New("refused")
	}
	return ctx.Err()
}

// IsWatchListSemanticsUnSupported says that watches do not begin with a list.
func (n *server) IsWatchListSemanticsUnSupported() bool { return true }

// Leases implements coordinationclient.LeasesGetter.
func (n *server) Leases(namespace string) coordinationclient.LeaseInterface {
	return leaseAccess{n.leases.CoordinationV1().Leases(namespace), n}
}

type leaseAccess struct {
	coordinationclient.LeaseInterface
	server *server
}

func (a leaseAccess) Get(ctx context.Context, name string, o metav1.GetOptions) (*coordinationv1.Lease, error) {
	if err := a.server.request(ctx, "get"); err != nil {
		return nil, err
	}
	return a.LeaseInterface.Get(ctx, name, o)
}

func (a leaseAccess) Create(ctx context.Context, l *coordinationv1.Lease, o metav1.CreateOptions) (*coordinationv1.Lease, error) {
	if err := a.server.request(ctx, "create"); err != nil {
		return nil, err
	}
	return a.LeaseInterface.Create(ctx, a.server.versioned(l), o)
}

func (a leaseAccess) Update(ctx context.Context, l *coordinationv1.Lease, o metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if err := a.server.request(ctx, "update"); err != nil {
		return nil, err
	}
	a.server.updating.Lock()
	defer a.server.updating.Unlock()
	now, err := a.LeaseInterface.Get(ctx, l.Name, metav1.GetOptions{})
	if err == nil && now.ResourceVersion != l.ResourceVersion {
		err = apierrors.NewConflict(coordinationv1.Resource("leases"), l.Name, errors.New("another version"))
	}
	if err != nil {
		return nil, err
	}
	return a.LeaseInterface.Update(ctx, a.server.versioned(l), o)
}

// Watch tells of what has the label only, unlike the fake.
func (a leaseAccess) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	if err := a.server.request(ctx, "watch"); err != nil {
		return nil, err
	}
	w, err := a.LeaseInterface.Watch(ctx, o)
	if err != nil {
		return nil, err
	}
	return watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
		l, ok := e.Object.(*coordinationv1.Lease)
		return e, !ok || l.Labels[dissentLabel] != ""
	}), nil
}

func (s *servers) versioned(l *coordinationv1.Lease) *coordinationv1.Lease {
	l = l.DeepCopy()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	l.ResourceVersion = strconv.Itoa(s.version)
	return l
}
