package conformance

import (
	"context"
	"slices"
	"time"
)

// Check is one promise of the API, and how a client sees whether it is kept.
type Check struct {
	// ID names the check: "watch/from-rv".
	ID string
	// Promise is what the contract says, in one sentence.
	Promise string
	// Source is where that is written.
	Source string
	// Faults are the well-known mistakes that the check finds, by number. FaultName has their names.
	Faults []int
	// Needs must be met; else the check is not applicable.
	Needs []Need
	// Slow checks take more than 10 seconds, and run only when asked for.
	Slow bool
	// Within bounds the check; zero means 30 seconds.
	Within time.Duration
	// Run does it. It returns when ctx ends.
	Run func(ctx context.Context, t *T)
}

// defaultWithin bounds a check that says nothing else.
const defaultWithin = 30 * time.Second

func (c Check) within() time.Duration {
	if c.Within > 0 {
		return c.Within
	}
	return defaultWithin
}

// Finds says whether the check names a fault.
func (c Check) Finds(fault int) bool { return slices.Contains(c.Faults, fault) }

// Checks returns all checks, in the order in which they run.
func Checks() []Check {
	return slices.Concat(
		discoveryChecks(),
		openAPIChecks(),
		mediaChecks(),
		errorChecks(),
		tableChecks(),
		listChecks(),
		pagingChecks(),
		watchChecks(),
		watchRefusalChecks(),
		watchSelectorChecks(),
		watchListChecks(),
		watchLoadChecks(),
		createChecks(),
		updateChecks(),
		fieldValidationChecks(),
		generationChecks(),
		subresourceChecks(),
		patchChecks(),
		applyChecks(),
		dryRunChecks(),
		deleteChecks(),
		versionChecks(),
		authorizationChecks(),
		admissionChecks(),
		requestChecks(),
		namespaceChecks(),
		readyChecks(),
		streamChecks(),
		certificateChecks(),
		storageChecks(),
	)
}

// The places where promises are written.
const (
	concepts    = "https://kubernetes.io/docs/reference/using-api/api-concepts/"
	conventions = "https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md"
	keps        = "https://github.com/kubernetes/enhancements/tree/master/keps/"
	metaTypes   = "k8s.io/apimachinery/pkg/apis/meta/v1/types.go, "
)

// faultNames are the mistakes that servers made by hand share.
var faultNames = [...]string{
	1:  "WatchList without its end bookmark, or with too many, or with initial events lost",
	2:  "a watch that ignores resourceVersion and replays",
	3:  "resourceVersions that are missing, no growing integers, or not refused when they are too old",
	4:  "DELETED empty or lost, selectors ignored in watches",
	5:  "watches that swallow errors, never end, or get stuck",
	6:  "authorization in list only",
	7:  "lost updates, foreign metadata wiped, deletion that passes by finalizers, untyped errors",
	8:  "server-side apply that fails on the internal version",
	9:  "admission or authentication passed by",
	10: "never ready for want of rights",
	11: "OpenAPI v2 missing or broken",
	12: "protobuf refused though another media type would do",
	13: "streams cut after a minute",
	14: "empty lists while the storage is down",
	15: "generation that grows with labels or status",
	16: "certificates without SAN or soon over, caBundle not restored",
	17: "fields of another version lost",
}

// FaultName says what a fault's number stands for; "" for a number that is none.
func FaultName(fault int) string {
	if fault < 1 || fault >= len(faultNames) {
		return ""
	}
	return faultNames[fault]
}

// Faults is how many faults are known.
func Faults() int { return len(faultNames) - 1 }
