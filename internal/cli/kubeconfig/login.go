package kubeconfig

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// loginLimit is how long the command of a kubeconfig may take to give credentials. It may ask a person,
// in a browser.
const loginLimit = 2 * time.Minute

// Login runs the command that gives credentials, where the kubeconfig has one, so that what follows
// finds them there. Requests would run it too, but nothing would end it then: client-go waits for
// it, whatever becomes of the request.
func (c *Connection) Login(ctx context.Context) error { return c.login(ctx, loginLimit) }

func (c *Connection) login(ctx context.Context, limit time.Duration) error {
	plugin := c.Config.ExecProvider
	if plugin == nil {
		return nil
	}
	// The other wrappers are for answers of a server, of which there is none here.
	config := rest.CopyConfig(c.Config)
	config.WrapTransport = nil
	settings, err := config.TransportConfig()
	if err != nil {
		return c.loggedOut(err)
	}
	if settings.HasBasicAuth() || settings.HasTokenAuth() || settings.WrapTransport == nil {
		return nil // these go first, and the command is not run
	}
	// Nobody waits for this goroutine after the time: nothing ends the command but itself, or the signal
	// that it gets as we do.
	done := make(chan error, 1)
	go func() {
		request, err := http.NewRequest(http.MethodGet, "https://nobody.invalid/", nil)
		if err == nil {
			_, err = settings.WrapTransport(nobody{}).RoundTrip(request)
		}
		done <- err
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err = <-done:
	case <-ctx.Done():
		return c.Explain("log in", ctx.Err())
	case <-timer.C:
		err = fmt.Errorf("it has not ended within %v", limit)
	}
	if err != nil {
		return c.loggedOut(err)
	}
	return nil
}

// loggedOut explains that the command gave no credentials. Its arguments may be secrets.
func (c *Connection) loggedOut(err error) error {
	said := strings.TrimPrefix(err.Error(), "getting credentials: ")
	said, _, _ = strings.Cut(said, "\n") // what follows is advice for developers
	return failed(nil, "the command %q of the user's kubeconfig gave no credentials (%s): %s; run it by hand to see what it needs, or log in another way",
		shown(c.Config.ExecProvider.Command), c.from(), hide(said, c.secrets))
}

// nobody answers requests that are not to be sent.
type nobody struct{}

func (nobody) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, nil
}
