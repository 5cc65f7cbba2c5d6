package sysinfo_test

import (
	"testing"

	"github.com/annex-api/annex/examples/internal/standalone"
	"github.com/annex-api/annex/examples/sysinfo"
	v1 "github.com/annex-api/annex/examples/sysinfo/v1"
	"github.com/annex-api/annex/extension"
)

func TestItRunsAsItsDocumentationSays(t *testing.T) {
	standalone.Example{
		Document: "server/main.go", Name: "sysinfo", Resource: v1.GroupVersion.WithResource("cpus"), Parts: []extension.Part{sysinfo.CPUs},
	}.Start(t)
}
