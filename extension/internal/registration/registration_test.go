package registration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/fake"
)

const (
	name    = "v1.widgets.example.com"
	manager = "widgets.extension.annex.dev"
)

// bundle is a CA bundle that a test changes.
type bundle struct {
	mu      sync.Mutex
	pem     []byte
	changed chan struct{}
}

func newBundle(pem string) *bundle { return &bundle{pem: []byte(pem), changed: make(chan struct{})} }

func (b *bundle) get() ([]byte, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pem, b.changed
}

func (b *bundle) set(pem string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pem = []byte(pem)
	close(b.changed)
	b.changed = make(chan struct{})
}

// lines keeps what is logged.
type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) logger() logr.Logger {
	return funcr.New(func(_, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.text = append(l.text, args)
	}, funcr.Options{})
}

func (l *lines) with(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.text {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// bench is a registration at a made-up host.
type bench struct {
	t      *testing.T
	client *fake.Clientset
	kube   *kubefake.Clientset
	bundle *bundle
	ready  chan struct{}
	log    lines
	stop   func()
}

func options(b *bench) Options {
	return Options{
		Name:        "widgets",
		APIServices: []APIService{{GroupVersion: schema.GroupVersion{Group: "widgets.example.com", Version: "v1"}, Annotations: map[string]string{"note": "yes"}}},
		Service:     types.NamespacedName{Namespace: "team", Name: "widgets"}, Owner: "widgets",
		Bundle: b.bundle.get, Ready: b.ready,
		Client: b.client.ApiregistrationV1().APIServices(), ClusterRoles: b.kube.RbacV1().ClusterRoles(), Log: b.log.logger(),
	}
}

func role() *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "widgets", UID: "uid-of-role"}}
}

// newBench runs a registration that ends with the bubble of the test.
func newBench(t *testing.T, setup ...func(*bench)) *bench {
	t.Helper()
	b := &bench{t: t, client: fake.NewClientset(), kube: kubefake.NewClientset(role()), bundle: newBundle("ca-1"), ready: make(chan struct{})}
	for _, f := range setup {
		f(b)
	}
	b.stop = b.run(options(b))
	return b
}

// run gives a function that ends the registration; it may be called again.
func (b *bench) run(o Options) (stop func()) {
	b.t.Helper()
	r, err := New(o)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("Run gave %v", err)
		}
	})
}

func (b *bench) get() *apiregistrationv1.APIService {
	b.t.Helper()
	a, err := b.client.ApiregistrationV1().APIServices().Get(b.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// change is what another tool does.
func (b *bench) change(f func(*apiregistrationv1.APIService)) {
	b.t.Helper()
	a := b.get()
	f(a)
	if _, err := b.client.ApiregistrationV1().APIServices().Update(b.t.Context(), a, metav1.UpdateOptions{FieldManager: "kapp"}); err != nil {
		b.t.Fatal(err)
	}
}

func strip(a *apiregistrationv1.APIService) { a.Spec.CABundle = nil }

func (b *bench) remove() {
	b.t.Helper()
	if err := b.client.ApiregistrationV1().APIServices().Delete(b.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// applies counts the writes of the registration.
func (b *bench) applies() int {
	n := 0
	for _, a := range b.client.Actions() {
		if a.GetVerb() == "patch" {
			n++
		}
	}
	return n
}

func (b *bench) forbid(verbs ...string) {
	for _, verb := range verbs {
		refuse := func(a clienttesting.Action) error {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "apiservices"}, a.GetVerb(), nil)
		}
		b.client.PrependReactor(verb, "*", func(a clienttesting.Action) (bool, runtime.Object, error) { return true, nil, refuse(a) })
	}
}

// What the host serves itself, by a CustomResourceDefinition perhaps, is not taken away. The
// server says so, and registers once it is gone.
func TestWhatTheHostServesIsNotTaken(t *testing.T) {
	for what, theirs := range map[string]*apiregistrationv1.APIService{
		"of a CRD":  {ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kube-aggregator.kubernetes.io/automanaged": "true"}}},
		"by nobody": {ObjectMeta: metav1.ObjectMeta{Name: name}},
		"written by us once": {
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
			Spec:       apiregistrationv1.APIServiceSpec{Service: &apiregistrationv1.ServiceReference{Namespace: "team", Name: "widgets"}},
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				theirs.Spec.Group, theirs.Spec.Version = "widgets.example.com", "v1"
				b := newBench(t, func(b *bench) { b.client = fake.NewClientset(theirs.DeepCopy()) })
				b.stop()
				o := options(b)
				o.Refusals = &Refusals{}
				stop := b.run(o)
				close(b.ready)
				synctest.Wait()
				if got := b.get(); b.applies() != 0 || got.Labels["kube-aggregator.kubernetes.io/automanaged"] != theirs.Labels["kube-aggregator.kubernetes.io/automanaged"] || len(got.Spec.CABundle) > 0 {
					t.Errorf("it was taken: %+v", got)
				}
				if err := o.Refusals.Err(); err == nil || !strings.Contains(err.Error(), "the host itself serves widgets.example.com/v1") {
					t.Errorf("it is refused with %v", err)
				}
				time.Sleep(time.Hour)
				if n := b.log.with("Not registered"); n != 1 {
					t.Errorf("that is said %d times", n)
				}
				b.remove()
				synctest.Wait()
				if got := b.get(); got == nil || string(got.Spec.CABundle) != "ca-1" {
					t.Errorf("after its end: %+v", got)
				}
				if err := o.Refusals.Err(); err != nil {
					t.Errorf("it is still refused: %v", err)
				}
				stop()
			})
		})
	}
}

func TestRegisteredOnceReadyAndNotRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		time.Sleep(time.Hour)
		if n := len(b.client.Actions()); n != 0 {
			t.Errorf("before the server was ready the host had %d requests", n)
		}
		close(b.ready)
		synctest.Wait()
		a := b.get()
		if a == nil {
			t.Fatal("not registered")
		}
		s := a.Spec
		if s.Group != "widgets.example.com" || s.Version != "v1" || string(s.CABundle) != "ca-1" || s.InsecureSkipTLSVerify ||
			s.Service.Namespace != "team" || s.Service.Name != "widgets" || *s.Service.Port != 443 || s.GroupPriorityMinimum != 1000 || s.VersionPriority != 15 ||
			a.Annotations["note"] != "yes" || len(a.OwnerReferences) != 1 || a.OwnerReferences[0].UID != "uid-of-role" || a.OwnerReferences[0].Kind != "ClusterRole" {
			t.Errorf("registered %+v", a)
		}
		if a.ManagedFields[0].Manager != manager || a.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply {
			t.Errorf("the fields are of %+v", a.ManagedFields[0])
		}
		b.stop()
		if b.get() == nil {
			t.Error("the registration went with the server")
		}
		before := b.applies()
		b.stop = b.run(options(b))
		time.Sleep(time.Hour)
		if n := b.applies() - before; n != 0 {
			t.Errorf("a restart wrote %d times what was right", n)
		}
		b.stop()
	})
}

func TestNotReadyServerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { newBench(t).stop() })
}

// TestWhatOthersChangeComesBack: at once with a watch, and after half a minute without.
func TestWhatOthersChangeComesBack(t *testing.T) {
	for what, c := range map[string]struct {
		forbidden []string
		watcher   bool
		within    time.Duration
	}{
		"watch":        {nil, false, time.Second},
		"no watch":     {nil, true, pollPause + time.Second},
		"get and poll": {[]string{"list"}, true, pollPause + time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(b *bench) {
					b.forbid(c.forbidden...)
					if c.watcher {
						b.client.PrependWatchReactor("*", refuseWatch)
					}
				})
				close(b.ready)
				synctest.Wait()
				right := func() bool {
					a := b.get()
					return a != nil && string(a.Spec.CABundle) == "ca-1" && *a.Spec.Service.Port == 443 && !a.Spec.InsecureSkipTLSVerify && len(a.OwnerReferences) == 1
				}
				for name, f := range map[string]func(){
					"stripped": func() { b.change(strip) },
					"foreign":  func() { b.change(func(a *apiregistrationv1.APIService) { a.Spec.CABundle = []byte("theirs") }) },
					"port": func() {
						port := int32(1)
						b.change(func(a *apiregistrationv1.APIService) { a.Spec.Service.Port = &port })
					},
					"insecure": func() {
						b.change(func(a *apiregistrationv1.APIService) { a.Spec.CABundle, a.Spec.InsecureSkipTLSVerify = nil, true })
					},
					"deleted": b.remove,
					"orphan":  func() { b.change(func(a *apiregistrationv1.APIService) { a.OwnerReferences = nil }) },
				} {
					time.Sleep(2*calm + 7*time.Second) // not when it polls
					before := b.applies()
					f()
					time.Sleep(c.within)
					if n := b.applies() - before; !right() || n != 1 {
						t.Errorf("%s: after %v and %d writes it is %+v", name, c.within, n, b.get())
					}
				}
				if b.log.with(`"kapp"`) == 0 {
					t.Errorf("the log does not name who it was: %q", b.log.text)
				}
				b.stop()
			})
		})
	}
}

func TestBundleFollowsRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		close(b.ready)
		for i := 2; i < 6; i++ {
			synctest.Wait()
			want := fmt.Sprintf("ca-%d", i)
			b.bundle.set(want)
			synctest.Wait()
			if got := string(b.get().Spec.CABundle); got != want {
				t.Errorf("the bundle is %q, want %q", got, want)
			}
			time.Sleep(calm + time.Second)
		}
		b.stop()
	})
}

// TestBundleOfSomebodyElse: a server without a CA leaves the bundle alone.
func TestBundleOfSomebodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.bundle = newBundle("") })
		close(b.ready)
		synctest.Wait()
		b.change(func(a *apiregistrationv1.APIService) { a.Spec.CABundle = []byte("injected") })
		time.Sleep(time.Hour)
		if got := string(b.get().Spec.CABundle); got != "injected" {
			t.Errorf("the bundle is %q", got)
		}
		b.stop()
	})
}

// TestFightIsPacedAndToldOnce: another tool strips the bundle as soon as it is there.
func TestFightIsPacedAndToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		close(b.ready)
		synctest.Wait()
		before := b.applies()
		const minutes = 30
		for range minutes * 600 {
			if a := b.get(); a != nil && a.Spec.CABundle != nil {
				b.change(strip)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := b.applies() - before; n < minutes-5 || n > minutes+8 {
			t.Errorf("%d writes in %d minutes", n, minutes)
		}
		if n, all := b.log.with("again and again"), b.log.with("Somebody change"); n != 1 || all > 3 {
			t.Errorf("%d lines of the fight, %d in all: %q", n, all, b.log.text)
		}
		time.Sleep(longestPause)
		if got := string(b.get().Spec.CABundle); got != "ca-1" {
			t.Errorf("after the fight the bundle is %q", got)
		}
		b.stop()
	})
}

// TestReplicasDoNotFight: one knows of a new CA earlier than the other.
func TestReplicasDoNotFight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		close(b.ready)
		other := newBundle("ca-1")
		o := options(b)
		o.Bundle = other.get
		stopOther := b.run(o)
		synctest.Wait()
		before := b.applies()
		for i := 2; i < 8; i++ {
			time.Sleep(calm + time.Second)
			pem := fmt.Sprintf("ca-%d", i)
			first, second := b.bundle, other
			if i%2 == 0 {
				first, second = other, b.bundle
			}
			first.set(pem)
			time.Sleep(time.Minute)
			if got := string(b.get().Spec.CABundle); got != pem {
				t.Errorf("the bundle is %q a minute after one replica has %q", got, pem)
			}
			second.set(pem)
		}
		synctest.Wait()
		if n := b.applies() - before; n != 6 {
			t.Errorf("six changes were written %d times", n)
		}
		// A bundle that nobody has any more does not stay.
		if _, err := b.client.ApiregistrationV1().APIServices().Patch(t.Context(), name, types.ApplyPatchType,
			[]byte(`{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"`+name+`"},"spec":{"group":"widgets.example.com","version":"v1",`+
				`"service":{"namespace":"team","name":"widgets","port":443},"groupPriorityMinimum":1000,"versionPriority":15,"caBundle":"b2xk"}}`),
			metav1.PatchOptions{FieldManager: manager, Force: new(true)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(grace + calm)
		if got := string(b.get().Spec.CABundle); got != "ca-7" {
			t.Errorf("the bundle of a replica that is gone stays: %q", got)
		}
		b.stop()
		stopOther()
	})
}

func TestOwnerThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.kube = kubefake.NewClientset() })
		close(b.ready)
		time.Sleep(time.Hour)
		if a := b.get(); a == nil || len(a.OwnerReferences) != 0 {
			t.Errorf("registered %+v", a)
		}
		for range 3 {
			b.change(func(a *apiregistrationv1.APIService) { a.Labels = map[string]string{"at": time.Now().Format("150405")} })
			time.Sleep(time.Minute)
		}
		if n := b.log.with("there is no ClusterRole widgets"); n != 1 {
			t.Errorf("%d lines: %q", n, b.log.text)
		}
		b.stop()
	})
}

// TestUninstalledServerDoesNotComeBack: the owner goes, the host removes the
// APIService, and the server still runs for a moment. With the owner it comes back.
func TestUninstalledServerDoesNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		close(b.ready)
		synctest.Wait()
		if err := b.kube.RbacV1().ClusterRoles().Delete(t.Context(), "widgets", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		b.change(strip) // a restart in between sees the reference alone
		b.stop()
		b.stop = b.run(options(b))
		time.Sleep(time.Minute)
		b.remove()
		time.Sleep(time.Hour)
		if a := b.get(); a != nil && len(a.OwnerReferences) == 0 {
			t.Errorf("registered again, without an owner: %+v", a)
		}
		b.stop()

		b = newBench(t)
		close(b.ready)
		synctest.Wait()
		if err := b.kube.RbacV1().ClusterRoles().Delete(t.Context(), "widgets", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		b.remove()
		time.Sleep(time.Hour)
		if a := b.get(); a != nil {
			t.Errorf("registered again: %+v", a)
		}
		if n := b.log.with("is being uninstalled"); n != 1 {
			t.Errorf("%d lines: %q", n, b.log.text)
		}
		back := role()
		back.UID = "another"
		if _, err := b.kube.RbacV1().ClusterRoles().Create(t.Context(), back, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if a := b.get(); a == nil || len(a.OwnerReferences) != 1 || a.OwnerReferences[0].UID != "another" {
			t.Errorf("with a new owner it is %+v", a)
		}
		b.stop()
	})
}

// TestOwnerThatCannotBeRead: a reference that is there is not dropped.
func TestOwnerThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		close(b.ready)
		synctest.Wait()
		b.kube.PrependReactor("get", "clusterroles", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewTimeoutError("later", 1)
		})
		b.change(strip)
		synctest.Wait()
		if a := b.get(); string(a.Spec.CABundle) != "ca-1" || len(a.OwnerReferences) != 1 {
			t.Errorf("it is %+v", a)
		}
		b.remove() // an uninstallation takes the right to read the owner along
		time.Sleep(time.Hour)
		if a := b.get(); a != nil {
			t.Errorf("registered again, with owners %v", a.OwnerReferences)
		}
		b.stop()
	})
}

// TestHostRefuses: it is told once, asked at most once a minute, and heals.
func TestHostRefuses(t *testing.T) {
	for _, verb := range []string{"list", "patch"} {
		t.Run(verb, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				var asked atomic.Int32
				down.Store(true)
				b := newBench(t, func(b *bench) {
					b.client.PrependReactor(verb, "*", func(clienttesting.Action) (bool, runtime.Object, error) {
						asked.Add(1)
						if down.Load() {
							return true, nil, apierrors.NewServiceUnavailable("down")
						}
						return false, nil, nil
					})
				})
				close(b.ready)
				time.Sleep(20 * time.Minute)
				if n := asked.Load(); n < 15 || n > 30 {
					t.Errorf("asked %d times in twenty minutes", n)
				}
				if n := b.log.with("down"); n != 1 {
					t.Errorf("told %d times: %q", n, b.log.text)
				}
				down.Store(false)
				time.Sleep(longestPause + time.Second)
				if b.get() == nil {
					t.Error("not registered when the host is back")
				}
				b.stop()
			})
		})
	}
}

func TestWhatIsWrongWithOptionsIsNamed(t *testing.T) {
	b := &bench{t: t, client: fake.NewClientset(), kube: kubefake.NewClientset(), bundle: newBundle(""), ready: make(chan struct{})}
	for want, change := range map[string]func(*Options){
		"needs a name":                 func(o *Options) { o.Name = "" },
		"too long":                     func(o *Options) { o.Name = strings.Repeat("x", 120) },
		"a Service with a namespace":   func(o *Options) { o.Service.Namespace = "" },
		"the port 70000":               func(o *Options) { o.Port = 70000 },
		"the priority 30000":           func(o *Options) { o.GroupPriorityMinimum = 30000 },
		"the priority -1 of version":   func(o *Options) { o.APIServices[0].VersionPriority = -1 },
		"twice":                        func(o *Options) { o.APIServices = slices.Repeat(o.APIServices, 2) },
		"no group version":             func(o *Options) { o.APIServices[0].GroupVersion.Group = "" },
		"cannot be looked up":          func(o *Options) { o.ClusterRoles = nil },
		"client, bundle and readiness": func(o *Options) { o.Ready = nil },
	} {
		o := options(b)
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func refuseWatch(clienttesting.Action) (bool, watch.Interface, error) {
	return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "apiservices"}, "watch", nil)
}
