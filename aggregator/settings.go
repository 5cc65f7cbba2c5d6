package aggregator

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// ValidateSettings checks the annotations of an APIService that hold settings of
// the layer, for hosts that store APIServices; path is that of the annotations.
// Each error names the annotation and says what is allowed. The layer itself
// leaves a setting that is wrong at its default.
//
// The settings are these, under aggregation.annex.dev/; any other name there is an
// error:
//
//	request-timeout         how long a request that is not long-running may take: 1s to 1h. The host
//	                        bounds requests, and has this from Aggregator.Claims
//	header-timeout          how long the header of a response may take: 100ms to 1h
//	discovery-timeout       how long a discovery request or download may take: 100ms to 5m
//	max-watch               how long a watch lasts: 1m to 24h
//	max-in-flight           how many requests are under way, long-running ones not counted: 1 to 100000
//	max-in-flight-per-user  how many of these are of one user: 1 to 100000
//	endpoints               up to 64 of https://host:port, separated by commas, in place of the Service's
//	watch-list              "auto" refuses watches with sendInitialEvents where the server is found not to
//	                        end their initial events; "pass" passes them on, "refuse" refuses them always
//	zone                    "prefer" endpoints of the server's own zone, or "ignore" zones
func ValidateSettings(annotations map[string]string, path *field.Path) field.ErrorList {
	_, errs := catalog.ParseSettings(annotations, path)
	return errs
}
