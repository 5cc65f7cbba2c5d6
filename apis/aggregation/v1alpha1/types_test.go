package v1alpha1_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

// A time that is not known is left out: the schema knows of no null.
func TestNoTimeIsNull(t *testing.T) {
	data, err := json.Marshal(v1alpha1.RemoteAPIService{Status: v1alpha1.RemoteAPIServiceStatus{
		Views:     []v1alpha1.View{{Server: "a:6443"}},
		Endpoints: []v1alpha1.Endpoint{{Address: "192.0.2.1:443"}},
	}})
	if err != nil || strings.Contains(string(data), "null") {
		t.Errorf("%v: %s", err, data)
	}
}
