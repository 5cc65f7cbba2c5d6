package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/streaming/pkg/httpstream"
	"sigs.k8s.io/yaml"

	"github.com/annex-api/annex/extension/internal/kind"
)

const (
	// maxActionBytes bounds the body of an action; it is what other bodies are bounded by.
	maxActionBytes = 3 << 20
	// actionBody is how long the body of an action may take to arrive.
	actionBody = 30 * time.Second
	// maxActions bounds how many of one action are under way, and as many again are those
	// whose body arrives; maxStreams how many of one stream are open. Priority and fairness
	// does not count what takes as long as it takes.
	maxActions, maxStreams = 200, 1000
	// userShare is which part of them one user may have: a quarter.
	userShare = 4
	// busyRetry is after how many seconds one that was refused is best tried again.
	busyRetry = 1
)

// subresource is what actions and streams have in common: each is a session with an object.
type subresource struct {
	sessions *Sessions
	// room is for those that are under way; those of actions, until their body is there.
	room  *shares
	store rest.Getter
	kind  *kind.Kind
	name  string
}

func (s *subresource) New() runtime.Object { return s.kind.New() }
func (s *subresource) Destroy()            {}

// enter begins a session with an object: where there is none, the answer is 404 and no
// session. Whoever gets one calls its leave.
func (s *subresource) enter(ctx context.Context, name string) (_ context.Context, session *session, obj runtime.Object, err error) {
	release, err := s.room.take(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, session, err = s.sessions.begin(ctx, release)
	if err != nil {
		return nil, nil, nil, err
	}
	defer session.leaveOn(&err)
	defer recovered(ctx, s.kind, s.name, &err)
	if obj, err = s.store.Get(ctx, name, &metav1.GetOptions{}); err != nil {
		return nil, nil, nil, err
	}
	return ctx, session, obj.DeepCopyObject(), nil // what is deeper in it belongs to the watch cache
}

// connect gives requests for a subresource to a user's handler.
type connect struct {
	subresource
	allow   authorizer.UnconditionalAuthorizer // nil allows
	connect *kind.Connect
}

var _ rest.Connecter = &connect{}

// NewConnectOptions gives none: the handler reads the query itself.
func (c *connect) NewConnectOptions() (runtime.Object, bool, string) { return nil, true, "" }

func (c *connect) ConnectMethods() []string { return c.connect.Methods }

// Connect gives what serves one session. Whoever calls it serves the handler.
func (c *connect) Connect(ctx context.Context, name string, _ runtime.Object, responder rest.Responder) (_ http.Handler, err error) {
	ctx, session, obj, err := c.enter(ctx, name)
	if err != nil {
		return nil, err
	}
	defer session.leaveOn(&err)
	defer recovered(ctx, c.kind, c.name, &err)
	handler, err := c.connect.Serve(ctx, obj)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer session.leave()
		err := c.mayOpen(ctx, r)
		if err == nil {
			func() {
				defer recovered(ctx, c.kind, c.name, &err)
				handler.ServeHTTP(session.handle(w), r.WithContext(ctx))
			}()
		}
		if err != nil {
			responder.Error(err)
		}
	}), nil
}

// mayOpen asks for the verb create where a GET opens a session: who may read an object
// may not type into it. kube-apiserver asks so for exec, attach and port-forward.
func (c *connect) mayOpen(ctx context.Context, r *http.Request) error {
	if c.allow == nil || r.Method != http.MethodGet || !httpstream.IsUpgradeRequest(r) {
		return nil
	}
	attributes, err := filters.GetAuthorizerAttributes(ctx)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	decision, reason, err := c.allow.Authorize(ctx, creating{attributes})
	if err == nil && decision == authorizer.DecisionAllow {
		return nil
	}
	if err != nil {
		reason = err.Error()
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: c.kind.Hub.Group, Resource: c.kind.Names.Plural + "/" + c.name}, attributes.GetName(),
		fmt.Errorf("to open a session needs the verb create: %s", reason))
}

// creating is a request as if it were one to create.
type creating struct{ authorizer.Attributes }

func (creating) GetVerb() string  { return "create" }
func (creating) IsReadOnly() bool { return false }

// action does something with an object.
type action struct {
	subresource
	typer  runtime.ObjectTyper
	action *kind.Action
	// running are those whose body is there, and body is how long a body may take.
	running *shares
	body    time.Duration
}

var _ rest.Connecter = &action{}

func (a *action) NewConnectOptions() (runtime.Object, bool, string) { return nil, false, "" }
func (a *action) ConnectMethods() []string                          { return []string{http.MethodPost} }

// Connect is as that of a stream.
func (a *action) Connect(ctx context.Context, name string, _ runtime.Object, responder rest.Responder) (http.Handler, error) {
	ctx, session, obj, err := a.enter(ctx, name)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer session.leave()
		out, text, err := a.do(ctx, obj, session.handle(w), r, session.release)
		switch {
		case err != nil:
			responder.Error(err)
		case out != nil:
			responder.Object(http.StatusOK, out)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(append(text, '\n')) // the client may be gone
		}
	}), nil
}

// do gives an answer that the API server can write in any form, or one in JSON. It calls
// arrived when the body is there: a slow one takes no place from those that run.
func (a *action) do(ctx context.Context, obj runtime.Object, w http.ResponseWriter, r *http.Request, arrived func()) (_ runtime.Object, text []byte, err error) {
	defer recovered(ctx, a.kind, a.name, &err)
	body, err := a.read(w, r)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("the body did not arrive within %v", a.body))
	}
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("the body could not be read: %v", err))
	}
	if len(body) > maxActionBytes {
		return nil, nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the limit is %d bytes", maxActionBytes))
	}
	ran, err := a.running.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer ran()
	arrived()
	in := a.action.NewIn()
	if len(body) > 0 {
		if err := decode(r.Header.Get("Content-Type"), body, in); err != nil {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("the body is no %T: %v", in, err))
		}
	}
	out, err := a.action.Do(ctx, obj, in)
	if err != nil {
		if errors.As(err, new(apierrors.APIStatus)) {
			return nil, nil, err
		}
		return nil, nil, apierrors.NewInternalError(err)
	}
	if out, ok := out.(runtime.Object); ok && a.knows(out) {
		return out, nil, nil
	}
	if text, err = json.Marshal(out); err != nil {
		return nil, nil, apierrors.NewInternalError(fmt.Errorf("the answer of %s/%s: %w", a.kind.Names.Plural, a.name, err))
	}
	return nil, text, nil
}

// knows says whether an answer is an object that the request's version can have: one of the
// kind's group, or one without a version, such as a Status. There may be none in the
// pointer.
func (a *action) knows(out runtime.Object) bool {
	if reflect.ValueOf(out).IsNil() {
		return false
	}
	kinds, unversioned, err := a.typer.ObjectKinds(out)
	return err == nil && (unversioned || slices.ContainsFunc(kinds, func(k schema.GroupVersionKind) bool { return k.Group == a.kind.Hub.Group }))
}

// read reads the body, up to a byte more than it may have.
func (a *action) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	c := http.NewResponseController(w)
	if err := c.SetReadDeadline(time.Now().Add(a.body)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxActionBytes+1))
	if err == nil {
		_ = c.SetReadDeadline(time.Time{}) // what could set it can take it back
	}
	return data, err
}

// decode reads a body as JSON, or as YAML where that is said. What in does not have is
// an error: an action that ignored it would not do what its caller wants.
func decode(contentType string, body []byte, in any) error {
	if strings.Contains(contentType, "yaml") {
		return yaml.UnmarshalStrict(body, in)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one value")
	}
	return nil
}
