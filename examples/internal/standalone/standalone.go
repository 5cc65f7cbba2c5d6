// Package standalone runs the servers of examples in tests, as their documentation says.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/annex-api/annex/extension"
)

const (
	// limit bounds the wait for a server that answers, and for its end.
	limit = 30 * time.Second
	pause = 20 * time.Millisecond
)

// Example is a server that a document says how to run.
type Example struct {
	// Document has a line "go run ./examples/… --standalone DIR …".
	Document string
	// Name is what the command calls the server.
	Name string
	// Resource can be listed once it runs.
	Resource schema.GroupVersionResource
	// Parts are what the command serves.
	Parts []extension.Part
	// Instead are flags that take the place of those in the document: a test has a database of
	// its own.
	Instead []string
}

// Start runs the server with the flags of its document, in a folder and on a port of the test's
// own, until the test ends. The configuration is that of the kubeconfig that it writes.
func (e Example) Start(t *testing.T) *rest.Config {
	t.Helper()
	folder := t.TempDir()
	args, err := e.arguments(folder)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- extension.Run(ctx, e.Name, args, t.Output(), e.Parts...) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s ended with an error: %v", e.Name, err)
			}
		case <-time.After(limit):
			t.Errorf("%s has not ended after %v", e.Name, limit)
		}
	})
	config, err := e.await(t.Context(), filepath.Join(folder, "kubeconfig"), ended)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// arguments are those of the document, with the test's folder in place of the document's.
func (e Example) arguments(folder string) ([]string, error) {
	text, err := os.ReadFile(e.Document)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		_, command, found := strings.Cut(line, "go run ./examples/")
		words := strings.Fields(command)
		if !found || len(words) < 3 || words[1] != "--standalone" {
			continue
		}
		args := slices.Concat(words[1:], []string{"--secure-port=0"}, e.Instead)
		for i := range args {
			args[i] = strings.ReplaceAll(strings.Trim(args[i], "'"), words[2], folder)
		}
		return args, nil
	}
	return nil, fmt.Errorf("%s does not say how to run the server", e.Document)
}

// await gives the configuration once the resource can be listed with it.
func (e Example) await(ctx context.Context, kubeconfig string, ended chan error) (*rest.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err == nil {
			err = list(ctx, config, e.Resource)
		}
		if err == nil {
			return config, nil
		}
		select {
		case <-time.After(pause):
		case end := <-ended:
			ended <- nil
			return nil, fmt.Errorf("%s ended before it served: %w", e.Name, end)
		case <-ctx.Done():
			return nil, fmt.Errorf("%s does not serve: %w", e.Name, err)
		}
	}
}

func list(ctx context.Context, config *rest.Config, resource schema.GroupVersionResource) error {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	_, err = client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
	return err
}
