// Package console is the command annex console: a page on loopback that shows, with the caller's
// rights, which extension server is at fault.
package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"

	"github.com/annex-api/annex/console"
	"github.com/annex-api/annex/internal/cli/kubeconfig"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/printable"
)

const (
	// headerLimit is how long a browser may take to send a request, and maxHeader how large it may be.
	headerLimit = 10 * time.Second
	maxHeader   = 64 << 10
	// stopLimit is how long the end waits for answers under way; watches are ended before.
	stopLimit = 3 * time.Second
)

// Options of the command.
type Options struct {
	IO terminal.IO
	kubeconfig.Flags

	Port int
	Open bool
}

// New returns the command.
func New(streams terminal.IO) *cobra.Command {
	o := &Options{IO: streams}
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Show in a browser which extension server is at fault",
		Long: `Serve a page on loopback that shows which extension server is at fault, why, and since
when: a map from API servers over APIServices to endpoints, latencies and errors, documents
and certificates, and the last changes.

The page sees what the user of the kubeconfig may see, and changes nothing. On a
kube-apiserver without Annex it shows the conditions of APIServices.

The address that is printed holds a secret: only who has it is shown anything, so that other
users of this machine are not. Ctrl-C ends it.`,
		Example: `  # Print the page's address.
  annex console

  # Open it in the browser.
  annex console --open

  # Another cluster, and always the same port.
  annex console --context production --port 8600`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unexpected argument %q; %s takes flags only, and the page has a filter", printable.Line(args[0], 100), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Port < 0 || o.Port > 65535 {
				return fmt.Errorf("--port %d is not between 0 and 65535; 0 takes a free one", o.Port)
			}
			return o.run(kubeconfig.Quiet(cmd.Context()))
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&o.Port, "port", 0, "Port of 127.0.0.1 to serve at; 0 takes a free one")
	fs.BoolVar(&o.Open, "open", false, "Open the page in the browser")
	o.Bind(cmd)
	return cmd
}

// run serves until ctx ends.
func (o *Options) run(ctx context.Context) error {
	connection, err := o.Connect("console")
	if err != nil {
		return err
	}
	if err := connection.Login(ctx); err != nil {
		return err
	}
	if err := reachable(ctx, connection); err != nil {
		return err
	}
	upstream, err := newProxy(connection)
	if err != nil {
		return err
	}
	defer upstream.close()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port)))
	if err != nil {
		return fmt.Errorf("listen at 127.0.0.1:%d: %w; --port=0 takes a free port", o.Port, err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	door := newDoor(port)
	door.next = pages(console.Options{
		Cluster: connection.Context, Server: connection.Server, Hosts: door.hosts,
		Diagnose: diagnose(connection),
	}, upstream)

	requests, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	server := &http.Server{
		Handler: door, BaseContext: func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: headerLimit, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(io.Discard, "", 0), // what browsers break off is no news
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	// Without the address nobody can open the page.
	_, unwritten := fmt.Fprintf(o.IO.Out, "%s, in a browser:\n\n  %s\n\nThis address is a secret: who has it sees what you may see. Ctrl-C ends it.\n", title(connection), door.address())
	if unwritten == nil && o.Open {
		remove, err := openBrowser(door.address())
		if err != nil {
			fmt.Fprintf(o.IO.Err, "No browser was opened: %v. Open the address above.\n", err)
		}
		defer remove()
	}

	if unwritten == nil {
		select {
		case err := <-served:
			return fmt.Errorf("serve the console: %w", err)
		case <-ctx.Done():
		}
	}
	end() // watches end, which would hold up the shutdown
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		_ = server.Close() // what is under way is cut off
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the console: %w", err)
	}
	if unwritten != nil {
		return fmt.Errorf("write the page's address: %w", unwritten)
	}
	return nil
}

// pages are all that is served behind the door.
func pages(o console.Options, upstream http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(console.Path, console.Handler(o))
	for _, path := range readable {
		mux.Handle(path, upstream)
	}
	mux.Handle(eventsPath, upstream)
	return mux
}

func title(c *kubeconfig.Connection) string {
	if c.Context == "" {
		return "Console of " + c.Server
	}
	return fmt.Sprintf("Console of context %s, %s", printable.Line(c.Context, 253), c.Server)
}

// reachable asks the API server for what the page will: who it does not know, or who may not see
// anything, is told here and not in a browser.
func reachable(ctx context.Context, c *kubeconfig.Connection) error {
	client, err := discovery.NewDiscoveryClientForConfig(c.Config)
	if err != nil {
		return c.Explain("make a client", err)
	}
	var (
		answer  []byte
		failure error
	)
	for _, path := range readable {
		result := client.RESTClient().Get().AbsPath(path).Param("limit", "1").Do(ctx)
		failure = result.Error() // which says what the API server does
		answer, _ = result.Raw() // the error is the same
		if failure == nil || !apierrors.IsNotFound(failure) && !apierrors.IsForbidden(failure) {
			break
		}
	}
	if failure != nil {
		return c.Explain("list APIServices", failure)
	}
	var list map[string]json.RawMessage
	if json.Unmarshal(answer, &list) != nil || list["items"] == nil {
		return fmt.Errorf("%s answers what is no list of APIServices; check that this is the address of a Kubernetes API server", c.Server)
	}
	return nil
}
