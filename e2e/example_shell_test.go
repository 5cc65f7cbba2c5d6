package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

// shellSessions opens sessions through the aggregation layer, by client-go's executors.
func shellSessions(t *testing.T, s *served) {
	if _, err := s.objects.Create(t.Context(), s.object(t, "sh", "sessions"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	viewer := s.user(t, "viewer")
	s.allow(t, "viewer", rbacv1.PolicyRule{APIGroups: []string{s.resource.Group}, Resources: []string{"shells", "shells/attach"}, Verbs: []string{"get"}})
	for name, executor := range map[string]func(config *rest.Config, u *url.URL) (remotecommand.Executor, error){
		"SPDY": func(config *rest.Config, u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewSPDYExecutor(config, http.MethodPost, u)
		},
		"WebSocket": func(config *rest.Config, u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(config, http.MethodGet, u.String())
		},
	} {
		open := func(config *rest.Config, query string, o remotecommand.StreamOptions) error {
			u, err := url.Parse(s.admin.Host + "/apis/shell.example.com/v1/namespaces/" + s.namespace + "/shells/sh/attach?" + query)
			if err != nil {
				return err
			}
			x, err := executor(config, u)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return x.StreamWithContext(ctx, o)
		}
		t.Run("lines over "+name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			err := open(s.admin, "stdin=true&stdout=true&stderr=true", remotecommand.StreamOptions{
				Stdin: strings.NewReader("6*7\nhostname\nwhat\nexit 3\n"), Stdout: &out, Stderr: &errOut,
			})
			var exit exec.CodeExitError
			if !errors.As(err, &exit) || exit.Code != 3 || out.String() != "42\nsh\n" || !strings.HasPrefix(errOut.String(), "what: ") {
				t.Errorf("it ended with %v, stdout %q, stderr %q; want exit code 3", err, &out, &errOut)
			}
		})
		t.Run("a terminal over "+name, func(t *testing.T) {
			sizes := sizes{make(chan remotecommand.TerminalSize, 1)}
			sizes.next <- remotecommand.TerminalSize{Width: 132, Height: 43}
			close(sizes.next)
			keys, p := newPerson()
			err := open(s.admin, "stdin=true&stdout=true&tty=true", remotecommand.StreamOptions{Stdin: keys, Stdout: p, Tty: true, TerminalSizeQueue: sizes})
			if err != nil || !strings.Contains(p.screen.String(), "132x43\r\n") {
				t.Errorf("%v; the screen shows %q", err, &p.screen)
			}
		})
		// Who may read a Shell may not type into it.
		t.Run("without the right over "+name, func(t *testing.T) {
			err := open(viewer, "stdin=true&stdout=true", remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: io.Discard})
			if err == nil || !strings.Contains(err.Error(), "forbidden") && !apierrors.IsForbidden(err) {
				t.Errorf("it ended with %v, want that it is forbidden", err)
			}
		})
	}
}

// allow gives a user rights everywhere.
func (c *cluster) allow(t *testing.T, user string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	rbac := c.kube.RbacV1()
	for _, err := range []error{
		create(t.Context(), rbac.ClusterRoles().Create, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: rules}),
		create(t.Context(), rbac.ClusterRoleBindings().Create, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: user},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// person sits in front of a terminal: asks for its size until it is known, then ends the session.
type person struct {
	screen bytes.Buffer
	keys   *io.PipeWriter
	read   int // how much of the screen
}

func newPerson() (keys io.Reader, p *person) {
	reader, writer := io.Pipe()
	return reader, &person{keys: writer}
}

// Write implements io.Writer.
func (p *person) Write(text []byte) (int, error) {
	p.screen.Write(text)
	shown := p.screen.String()[p.read:]
	if !strings.HasSuffix(shown, "$ ") {
		return len(text), nil
	}
	p.read = p.screen.Len()
	keys := "size\r"
	if strings.Contains(shown, "132x43") {
		keys = "exit\r"
	}
	_, err := io.WriteString(p.keys, keys)
	return len(text), err
}
