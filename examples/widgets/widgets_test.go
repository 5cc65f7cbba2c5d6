package widgets_test

import (
	"testing"

	"github.com/annex-api/annex/examples/widgets"
	v1 "github.com/annex-api/annex/examples/widgets/v1"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

func TestConformance(t *testing.T) {
	running := extensiontest.Start(t, nil, widgets.Widgets)
	for _, version := range []string{"v1", "v1beta1"} {
		t.Run(version, func(t *testing.T) {
			extensiontest.Conform(t, running, conformance.Target{Resource: v1.GroupVersion.WithResource("widgets").GroupResource().WithVersion(version)})
		})
	}
}

func TestConversionsLoseNothing(t *testing.T) {
	extensiontest.RoundTrip(t, widgets.Widgets)
}
