// Package wardle has the kinds of sample-apiserver on the SDK, to be measured beside it.
package wardle

import (
	"context"
	"embed"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/annex-api/annex/bench/sdk/wardle/v1alpha1"
	"github.com/annex-api/annex/bench/sdk/wardle/v1beta1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage"
)

//go:generate go tool -modfile=../../../tools/go.mod controller-gen object paths=./...
//go:generate go tool -modfile=../../../tools/go.mod controller-gen crd paths=./... output:crd:dir=crd

//go:embed crd
var crds embed.FS

// Flunders and Fischers are the kinds.
var (
	Flunders = extension.Resource[v1alpha1.Flunder, v1alpha1.FlunderList]{
		GroupVersion: v1alpha1.GroupVersion,
		Schema:       crds,
		Default:      setDefaults,
		Validate:     validate,
		Versions:     extension.Versions(extension.Spoke("v1beta1", v1beta1.ToHub, v1beta1.FromHub)),
	}
	Fischers = extension.Resource[v1alpha1.Fischer, v1alpha1.FischerList]{GroupVersion: v1alpha1.GroupVersion, Schema: crds}
)

func setDefaults(f *v1alpha1.Flunder) {
	if f.Spec.ReferenceType == nil && f.Spec.Reference != "" {
		flunder := v1alpha1.FlunderReference
		f.Spec.ReferenceType = &flunder
	}
}

func validate(_ context.Context, f *v1alpha1.Flunder) field.ErrorList {
	if f.Spec.ReferenceType != nil && f.Spec.Reference == "" {
		return field.ErrorList{field.Required(field.NewPath("spec", "reference"), "a reference type needs a reference")}
	}
	return nil
}

// debugFlag comes first where a bench looks at the process.
const debugFlag = "--debug-socket="

// Main is the program of a server over some drivers.
func Main(drivers ...storage.Driver) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	args, err := arguments()
	if err == nil {
		err = extension.Run(ctx, "wardle", args, os.Stderr, Flunders, Fischers, extension.Drivers(drivers...))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wardle:", err)
		stop()
		os.Exit(1)
	}
}

// arguments are those of the server. Where the first names a Unix socket, profiles are served there.
func arguments() ([]string, error) {
	args := os.Args[1:]
	if len(args) == 0 {
		return args, nil
	}
	socket, ok := strings.CutPrefix(args[0], debugFlag)
	if !ok {
		return args, nil
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // It ends with the process.
	return args[1:], nil
}
