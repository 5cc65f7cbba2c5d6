package widgets_test

import (
	"testing"

	"github.com/annex-api/annex/examples/internal/standalone"
	"github.com/annex-api/annex/examples/widgets"
	v1 "github.com/annex-api/annex/examples/widgets/v1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/drivers"
)

func TestItRunsAsItsDocumentationSays(t *testing.T) {
	standalone.Example{
		Document: "server/main.go", Name: "widgets", Resource: v1.GroupVersion.WithResource("widgets"),
		Parts: []extension.Part{widgets.Widgets, widgets.Controller, extension.Drivers(drivers.All()...)},
	}.Start(t)
}
