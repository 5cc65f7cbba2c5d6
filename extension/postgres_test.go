package extension_test

import (
	"testing"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
	"github.com/annex-api/annex/extension/internal/postgrestest"
	"github.com/annex-api/annex/extension/storage/kine/postgres"
)

// A kind without a schema passes the kit, over PostgreSQL. Its Go type has no comments at
// run time.
func TestConformanceOverPostgreSQL(t *testing.T) {
	database := postgrestest.Start(t).Database()
	running := extensiontest.Start(t, func(c *extension.Config) { c.Storage = database }, named(things{Status: true}), extension.Drivers(postgres.Driver()))
	extensiontest.Conform(t, running, conformance.Target{Resource: thingsV1.WithResource("things"), Change: []string{"spec", "text"}, Skip: []string{"openapi/comments"}}, "scale/*", "versions/*", "apply/other-version")
}
