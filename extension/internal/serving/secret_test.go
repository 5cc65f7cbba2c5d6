package serving

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func secrets(client *fake.Clientset) Secret {
	return Secret{Client: client.CoreV1().Secrets("team"), Name: "widgets-serving"}
}

func stored(t *testing.T, client *fake.Clientset) *corev1.Secret {
	t.Helper()
	s, err := secrets(client).Client.Get(t.Context(), "widgets-serving", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hostOf gives a client that refuses to update what has changed, as a host does, and
// counts updates.
func hostOf(objects ...runtime.Object) (*fake.Clientset, *atomic.Int32) {
	client := fake.NewClientset(objects...)
	var updates atomic.Int32
	var mu sync.Mutex
	version := 0
	put := func(a clienttesting.CreateAction, update bool) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		s := a.GetObject().(*corev1.Secret).DeepCopy()
		s.Namespace = a.GetNamespace()
		if update {
			old, err := client.Tracker().Get(a.GetResource(), s.Namespace, s.Name)
			if err != nil {
				return true, nil, err
			}
			if old.(*corev1.Secret).ResourceVersion != s.ResourceVersion {
				return true, nil, apierrors.NewConflict(a.GetResource().GroupResource(), s.Name, errors.New("it has changed"))
			}
			updates.Add(1)
		}
		version++
		s.ResourceVersion = strconv.Itoa(version)
		if update {
			return true, s, client.Tracker().Update(a.GetResource(), s, s.Namespace)
		}
		return true, s, client.Tracker().Create(a.GetResource(), s, s.Namespace)
	}
	client.PrependReactor("create", "secrets", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return put(a.(clienttesting.CreateAction), false)
	})
	client.PrependReactor("update", "secrets", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return put(a.(clienttesting.CreateAction), true)
	})
	return client, &updates
}

// told has one place, as changes come faster than they are looked at.
type told chan struct{}

func (t told) Enqueue() {
	select {
	case t <- struct{}{}:
	default:
	}
}

// TestReplicasShareOneCertificate: through all renewals, what one shows the other's
// bundle trusts, and one alone renews.
func TestReplicasShareOneCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, updates := hostOf()
		o := lives(Options{Secret: secrets(client)})
		a := open(t, o)
		stopA := run(t, a)
		time.Sleep(7 * time.Second) // replicas do not look at the same moment
		b := open(t, o)
		stopB := run(t, b)
		// Right after one replica has changed, the other still shows what it had.
		changed := make(told, 1)
		a.AddListener(changed)
		b.AddListener(changed)
		var certificates [][]byte
		for begun := time.Now(); time.Since(begun) < 6*day; {
			bundleA, _ := a.Bundle()
			bundleB, _ := b.Bundle()
			for _, pair := range []struct {
				shows  *Certificate
				trusts []byte
			}{{a, bundleB}, {b, bundleA}} {
				if _, err := handshake(pair.shows, pair.trusts, "widgets.team.svc"); err != nil {
					t.Fatal(err)
				}
			}
			cert, _ := a.CurrentCertKeyContent()
			if !slices.ContainsFunc(certificates, func(c []byte) bool { return bytes.Equal(c, cert) }) {
				certificates = append(certificates, cert)
			}
			select {
			case <-changed:
			case <-time.After(15 * time.Minute):
			}
		}
		time.Sleep(2 * sharedPause)
		certA, _ := a.CurrentCertKeyContent()
		certB, _ := b.CurrentCertKeyContent()
		if !bytes.Equal(certA, certB) {
			t.Error("the replicas show different certificates")
		}
		// Each of three CAs is announced and retired beside the making of certificates.
		if n := int(updates.Load()); n < len(certificates)-1 || n > len(certificates)-1+6 {
			t.Errorf("%d certificates in %d updates: more than one renews", len(certificates), n)
		}
		stopA()
		stopB()
	})
}

// TestLoserTakesTheWinners: another replica writes between this one's look and its write.
func TestLoserTakesTheWinners(t *testing.T) {
	winner := func(t *testing.T) map[string][]byte {
		o := lives(Options{})
		o.SetDefaults()
		c, err := o.take(begin, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return c.encode()
	}
	for verb, before := range map[string]*corev1.Secret{
		"create": nil,
		"update": {ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "widgets-serving", Labels: map[string]string{"of": "the manifest"}}},
	} {
		t.Run(verb, func(t *testing.T) {
			client, _ := hostOf()
			if before != nil {
				client, _ = hostOf(before.DeepCopy())
			}
			data := winner(t)
			var once atomic.Bool
			client.PrependReactor(verb, "secrets", func(a clienttesting.Action) (bool, runtime.Object, error) {
				if once.Swap(true) {
					return false, nil, nil
				}
				theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "widgets-serving"}, Data: data}
				if verb == "create" {
					if err := client.Tracker().Add(theirs); err != nil {
						return true, nil, err
					}
					return true, nil, apierrors.NewAlreadyExists(a.GetResource().GroupResource(), "x")
				}
				if err := client.Tracker().Update(a.GetResource(), theirs, "team"); err != nil {
					return true, nil, err
				}
				return true, nil, apierrors.NewConflict(a.GetResource().GroupResource(), "x", nil)
			})
			var log strings.Builder
			c := open(t, lives(Options{Secret: secrets(client), Log: funcr.New(func(_, args string) { log.WriteString(args) }, funcr.Options{})}))
			if log.Len() > 0 {
				t.Errorf("who loses has nothing to say, and said %q", log.String())
			}
			if cert, _ := c.CurrentCertKeyContent(); !bytes.Equal(cert, data[keyCert]) {
				t.Error("the loser shows a certificate of its own")
			}
			if got := stored(t, client).Data[keyCert]; !bytes.Equal(got, data[keyCert]) {
				t.Error("the loser has overwritten the winner's certificate")
			}
		})
	}
}

func TestEmptySecretIsFilled(t *testing.T) {
	client := fake.NewClientset(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "widgets-serving", Labels: map[string]string{"of": "the manifest"}}})
	c := open(t, lives(Options{Secret: secrets(client)}))
	s := stored(t, client)
	bundle, _ := c.Bundle()
	if s.Labels["of"] != "the manifest" || !bytes.Equal(s.Data[keyBundle], bundle) {
		t.Errorf("the Secret has labels %v and %d keys", s.Labels, len(s.Data))
	}
}

// TestLostSecretComesBack: clients trust what is shown, so that is what is written.
func TestLostSecretComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		c := open(t, lives(Options{Secret: secrets(client)}))
		stop := run(t, c)
		before, _ := c.CurrentCertKeyContent()
		for what, spoil := range map[string]func() error{
			"deleted": func() error {
				return secrets(client).Client.Delete(t.Context(), "widgets-serving", metav1.DeleteOptions{})
			},
			"emptied": func() error {
				s := stored(t, client)
				s.Data = nil
				_, err := secrets(client).Client.Update(t.Context(), s, metav1.UpdateOptions{})
				return err
			},
			"broken": func() error {
				s := stored(t, client)
				s.Data[keyCert] = []byte("x")
				_, err := secrets(client).Client.Update(t.Context(), s, metav1.UpdateOptions{})
				return err
			},
		} {
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(sharedPause + time.Second)
			if got := stored(t, client).Data[keyCert]; !bytes.Equal(got, before) {
				t.Errorf("%s: the Secret has another certificate than is shown", what)
			}
		}
		if after, _ := c.CurrentCertKeyContent(); !bytes.Equal(before, after) {
			t.Error("another certificate is shown")
		}
		stop()
	})
}

// TestDiscardedSecretIsReplaced: where a key is known to somebody, an annotation has the CA
// and the certificate replaced at once, in all replicas, and no replica brings them back.
func TestDiscardedSecretIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := hostOf()
		o := lives(Options{Secret: secrets(client)})
		a, b := open(t, o), open(t, o)
		stopA, stopB := run(t, a), run(t, b)
		before, _ := a.Bundle()
		s := stored(t, client)
		s.Annotations = map[string]string{DiscardAnnotation: "", "other": "stays"}
		if _, err := secrets(client).Client.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * sharedPause)
		bundleA, _ := a.Bundle()
		bundleB, _ := b.Bundle()
		if bytes.Equal(bundleA, before) || !bytes.Equal(bundleA, bundleB) {
			t.Error("the replicas do not have the same new CA")
		}
		if bytes.Contains(bundleA, bytes.TrimSpace(before)) {
			t.Error("the discarded CA is still in the bundle")
		}
		if _, err := handshake(a, bundleB, "widgets.team.svc"); err != nil {
			t.Error(err)
		}
		if _, err := handshake(b, before, "widgets.team.svc"); err == nil {
			t.Error("who trusts the discarded CA trusts the new certificate")
		}
		s = stored(t, client)
		if _, ok := s.Annotations[DiscardAnnotation]; ok || s.Annotations["other"] != "stays" {
			t.Errorf("the annotations are %v", s.Annotations)
		}
		bundle := bundleA
		time.Sleep(2 * sharedPause)
		if again, _ := a.Bundle(); !bytes.Equal(again, bundle) {
			t.Error("it is replaced again and again")
		}
		stopA()
		stopB()
	})
}

func TestSecretOfSomebodyElseIsLeftAlone(t *testing.T) {
	client := fake.NewClientset(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "widgets-serving"}, Data: map[string][]byte{keyCert: []byte("x"), keyKey: []byte("y")},
	})
	_, err := New(t.Context(), lives(Options{Secret: secrets(client)}))
	if err == nil || !strings.Contains(err.Error(), "Secret widgets-serving: it holds something that this server has not made") {
		t.Errorf("got %v", err)
	}
	if s := stored(t, client); string(s.Data[keyCert]) != "x" {
		t.Error("it was overwritten")
	}
}

func TestSecretThatMayNotBeRead(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("get", "secrets", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(a.GetResource().GroupResource(), "widgets-serving", nil)
	})
	_, err := New(t.Context(), lives(Options{Secret: secrets(client)}))
	if err == nil || !strings.Contains(err.Error(), "may not get the Secret widgets-serving") {
		t.Errorf("got %v", err)
	}
}

// TestHostIsDownForAWhile: at the start it is waited for, later the last certificate is shown.
func TestHostIsDownForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		var down atomic.Bool
		client.PrependReactor("*", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
			if down.Load() {
				return true, nil, errors.New("connection refused")
			}
			return false, nil, nil
		})
		down.Store(true)
		begun := time.Now()
		if _, err := New(t.Context(), lives(Options{Secret: secrets(client)})); err == nil || time.Since(begun) < startTimeout {
			t.Errorf("it gave up after %v with %v", time.Since(begun), err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := New(short, lives(Options{Secret: secrets(client)})); err == nil {
			t.Error("it made a certificate without the host")
		}
		time.AfterFunc(3*time.Second, func() { down.Store(false) })
		c := open(t, lives(Options{Secret: secrets(client)}))
		stop := run(t, c)
		down.Store(true)
		before, _ := c.CurrentCertKeyContent()
		time.Sleep(7 * time.Hour)
		if now, _ := c.CurrentCertKeyContent(); !bytes.Equal(before, now) {
			t.Error("a certificate is shown that the other replicas do not know")
		}
		down.Store(false)
		time.Sleep(retryPause + lookTimeout)
		if now, _ := c.CurrentCertKeyContent(); bytes.Equal(before, now) {
			t.Error("it was not renewed when the host was back")
		}
		stop()
	})
}

// TestHostsThatReplicasAdd: two replicas that want different hosts do not take turns.
func TestHostsThatReplicasAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, updates := hostOf()
		old, updated := lives(Options{Secret: secrets(client), Hosts: []string{"old.example.com"}}), lives(Options{Secret: secrets(client), Hosts: []string{"new.example.com"}})
		a, b := open(t, old), open(t, updated)
		stopA, stopB := run(t, a), run(t, b)
		time.Sleep(time.Hour)
		bundle, _ := a.Bundle()
		for _, c := range []*Certificate{a, b} {
			for _, host := range []string{"old.example.com", "new.example.com"} {
				if _, err := handshake(c, bundle, host); err != nil {
					t.Error(err)
				}
			}
		}
		if n := updates.Load(); n != 1 {
			t.Errorf("%d updates in an hour, want one", n)
		}
		stopA()
		stopB()
	})
}
