package kubeapiserver

import (
	"time"

	"k8s.io/apimachinery/pkg/util/version"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"

	"github.com/annex-api/annex/aggregator"
)

// EnableAggregatedDiscoveryTimeout bounds discovery requests to extension
// servers to 5 seconds. Deprecated, and true by default; false lifts the bound.
const EnableAggregatedDiscoveryTimeout featuregate.Feature = "EnableAggregatedDiscoveryTimeout"

// RegisterFeatureGates makes the gates of this package known. Call it before
// the reference's options are made into flags; calling it again is harmless.
func RegisterFeatureGates() error {
	if _, known := utilfeature.DefaultMutableFeatureGate.GetAll()[EnableAggregatedDiscoveryTimeout]; known {
		return nil
	}
	return utilfeature.DefaultMutableFeatureGate.AddVersioned(map[featuregate.Feature]featuregate.VersionedSpecs{
		EnableAggregatedDiscoveryTimeout: {
			{Version: version.MustParse("1.0"), Default: true, PreRelease: featuregate.Deprecated},
		},
	})
}

// discoveryTimeout is the bound in force; hosts that do not register the gate
// have its default.
func discoveryTimeout() time.Duration {
	if _, known := utilfeature.DefaultMutableFeatureGate.GetAll()[EnableAggregatedDiscoveryTimeout]; known &&
		!utilfeature.DefaultFeatureGate.Enabled(EnableAggregatedDiscoveryTimeout) {
		return -1
	}
	return aggregator.DefaultDiscoveryTimeout
}
