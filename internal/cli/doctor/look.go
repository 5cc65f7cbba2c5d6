package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/diagnosis/gather"
	"github.com/annex-api/annex/internal/cli/kubeconfig"
	"github.com/annex-api/annex/internal/printable"
)

// outcome is what one look found.
type outcome struct {
	// Server is the API server that was asked.
	Server string `json:"server,omitempty"`
	// Reports are those of the APIServices that were looked at, by name.
	Reports []diagnosis.Report `json:"reports"`
	// Remote is how many APIServices lead to extension servers.
	Remote int `json:"remote"`
	// SeemWell is how many of these were not looked at, for nothing says that they are not well.
	SeemWell int `json:"seemWell"`
	// LeftOut is how many are not well, and were too many to look at.
	LeftOut int `json:"leftOut,omitempty"`
	// Offline says why the cluster could not be asked, where only files were looked at.
	Offline string `json:"offline,omitempty"`
	// Stopped says how far it came, where it was stopped before all was looked at.
	Stopped string `json:"stopped,omitempty"`
}

// faulty is how many APIServices are at fault, and how many more may be.
func (o outcome) faulty() (sure, possible int) {
	for _, r := range o.Reports {
		switch {
		case r.AtFault():
			sure++
		case slices.ContainsFunc(r.Findings, func(f diagnosis.Finding) bool { return f.Severity != diagnosis.Info }):
			possible++
		}
	}
	return sure, possible
}

// faults is the error that says that there are some. Its text is empty where the report has said it.
type faults struct{ text string }

func (f faults) Error() string { return f.text }

// ExitCode of the command.
func (faults) ExitCode() int { return 1 }

// verdict is nil where all is well. What is no more than possible fails nobody's job: it is told, and
// whoever reads it decides.
func (o outcome) verdict() error {
	n, _ := o.faulty()
	n += o.LeftOut
	if n == 0 {
		return nil
	}
	return faults{fmt.Sprintf("%s at fault", count(n, "APIService is", "APIServices are"))}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// looking prepares a look: files are read, and the kubeconfig, once.
func (o *Options) looking(ctx context.Context) (func(context.Context) (outcome, error), error) {
	manifests, err := o.manifests(ctx)
	if err != nil {
		return nil, err
	}
	connection, err := o.Client.Connect("doctor")
	if err == nil {
		err = connection.Login(ctx)
	}
	if err != nil {
		if manifests == nil {
			return nil, err
		}
		return func(context.Context) (outcome, error) {
			return o.diagnose(gather.Offline(manifests, time.Now(), err)), nil
		}, nil
	}
	options := gather.Options{
		Config: connection.Config, Names: o.Names, All: o.All, Manifests: manifests,
		RequestTimeout: connection.Config.Timeout, WatchList: o.WatchList, Direct: o.Direct, Progress: o.progress.update,
	}
	if !o.All {
		options.Most = most
	}
	if o.ProbePod {
		options.ProbePod = &gather.ProbePod{Image: o.ProbeImage, Say: o.progress.say}
	}
	if options.RequestTimeout == 0 {
		options.RequestTimeout = longest
	}
	return func(ctx context.Context) (outcome, error) {
		o.progress.begin()
		facts, err := gather.Facts(ctx, options)
		o.progress.end()
		var stopped gather.Stopped
		switch {
		case errors.As(err, &stopped):
			found := o.diagnose(facts)
			found.Stopped = stopped.Error()
			return found, stopped
		case err != nil:
			return outcome{}, explained(connection, err)
		}
		return o.diagnose(facts), nil
	}, nil
}

// longest bounds a request for which --request-timeout is none.
const longest = time.Minute

func explained(c *kubeconfig.Connection, err error) error {
	return c.Explain("read the APIServices", err)
}

// manifests are what -f names; nil without it.
func (o *Options) manifests(ctx context.Context) (*gather.Manifests, error) {
	if len(o.Files) == 0 {
		return nil, nil
	}
	m := &gather.Manifests{}
	for _, name := range o.Files {
		if err := o.readManifests(ctx, m, name); ctx.Err() != nil {
			return nil, fmt.Errorf("stopped while %s was read", printable.Line(name, maxName))
		} else if err != nil {
			return nil, unreadable(name, err)
		}
	}
	if len(m.APIServices) == 0 {
		return nil, fmt.Errorf("there is no APIService in %s; name a manifest that has one, such as \"kubectl get apiservice NAME -o yaml\" prints", o.files())
	}
	var names []string
	for _, a := range m.APIServices {
		names = append(names, a.Name)
	}
	for _, name := range o.Names {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("APIService %s is not in %s; there are: %s", name, o.files(), printable.Line(strings.Join(names, ", "), maxText))
		}
	}
	return m, nil
}

// files are those of -f, as they may be shown.
func (o *Options) files() string { return printable.Line(strings.Join(o.Files, ", "), maxName) }

// unreadable says why a file of -f could not be read, and what to give in its place.
func unreadable(name string, err error) error {
	shown := printable.Line(name, maxName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no file %s; -f takes the path of a manifest, or - for standard input", shown)
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%s is a folder; name the files in it, each with -f", shown)
	}
	return fmt.Errorf("read %s: %s; -f takes a manifest: objects in YAML or JSON", shown, printable.Line(err.Error(), maxText))
}

// readManifests reads a file. Nobody waits for the reader after the end of ctx: what it waits for may
// be a terminal, or a pipe that nobody writes to, and the command ends then.
func (o *Options) readManifests(ctx context.Context, m *gather.Manifests, name string) error {
	var read gather.Manifests
	done := make(chan error, 1)
	go func() { done <- o.readFile(&read, name) }()
	select {
	case err := <-done:
		if err != nil {
			return err
		}
		m.Add(read)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *Options) readFile(m *gather.Manifests, name string) error {
	if name == "-" {
		return m.Read(o.In)
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return m.Read(io.Reader(file))
}

// diagnose says what facts mean.
func (o *Options) diagnose(facts diagnosis.Facts) outcome {
	found := outcome{Server: facts.Cluster.Server, Reports: []diagnosis.Report{}}
	for _, name := range slices.Sorted(maps.Keys(facts.APIServices)) {
		found.Reports = append(found.Reports, diagnosis.Diagnose(&facts, name))
	}
	every, seen := facts.Cluster.APIServices.Get()
	if !seen && len(o.Files) > 0 {
		found.Offline = printable.Line(facts.Cluster.APIServices.Why().Error(), maxText)
	}
	for i := range every {
		a := &every[i]
		if !gather.Remote(a) {
			continue
		}
		found.Remote++
		if _, looked := facts.APIServices[a.Name]; looked || len(o.Names)+len(o.Files) > 0 {
			continue
		}
		if gather.Available(a) {
			found.SeemWell++
		} else {
			found.LeftOut++
		}
	}
	return found
}

// maxText bounds a text that is shown.
const maxText = 2000
