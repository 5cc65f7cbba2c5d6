package bulletin_test

import (
	"testing"

	"github.com/annex-api/annex/examples/bulletin"
	v1 "github.com/annex-api/annex/examples/bulletin/v1"
	"github.com/annex-api/annex/examples/internal/standalone"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/drivers"
)

func TestItRunsAsItsDocumentationSays(t *testing.T) {
	standalone.Example{
		Document: "README.md", Name: "bulletin", Resource: v1.GroupVersion.WithResource("notices"),
		Parts: []extension.Part{bulletin.Notices, extension.Drivers(drivers.All()...)},
	}.Start(t)
}
