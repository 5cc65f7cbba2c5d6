package sysinfo_test

import (
	"testing"

	"github.com/annex-api/annex/examples/sysinfo"
	v1 "github.com/annex-api/annex/examples/sysinfo/v1"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

func TestConformance(t *testing.T) {
	running := extensiontest.Start(t, nil, sysinfo.CPUs)
	extensiontest.Conform(t, running, conformance.Target{Resource: v1.GroupVersion.WithResource("cpus")}, string(conformance.Writable), "apply/other-version")
}
