package handlerchain

import (
	"testing"

	"github.com/google/uuid"
)

func TestAuditIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 10_000 {
		id := newAuditID()
		parsed, err := uuid.Parse(id)
		if err != nil || parsed.Version() != 4 || parsed.Variant() != uuid.RFC4122 || parsed.String() != id {
			t.Fatalf("%q is not a random UUID: %v", id, err)
		}
		if seen[id] {
			t.Fatalf("%q came twice", id)
		}
		seen[id] = true
	}
}
