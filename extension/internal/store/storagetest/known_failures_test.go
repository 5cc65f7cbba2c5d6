package storagetest

// failure is what fails of a function over a driver: all of it, or the cases named.
type failure struct {
	reason string
	cases  []string
}

// knownFailures are by driver/layer/function. What passes must not stand here.
var knownFailures = map[string]failure{
	"memory/cache/WatchSemantics":   beginsAtTwo,
	"sqlite/cache/WatchSemantics":   beginsAtTwo,
	"postgres/cache/WatchSemantics": beginsAtTwo,
}

// An API server never gives out the revision that these cases begin with.
var beginsAtTwo = failure{
	reason: "kine's first two revisions are its own, so a watch cache over it never knew revision 1, and answers 410 as it should",
	cases: []string{
		"allowWatchBookmarks=false,_sendInitialEvents=false,_RV=1",
		"allowWatchBookmarks=true,_sendInitialEvents=false,_RV=1",
	},
}

// notOverStore and notOverCache are upstream's functions that are not run over the store, and over the watch cache. Those
// that upstream itself runs there must not stand here.
var (
	notOverStore = map[string]string{
		"RunTestOptionalWatchBookmarksWithCorrectResourceVersion": "bookmarks of a time are the watch cache's",
	}
	notOverCache = map[string]string{
		"RunOptionalTestProgressNotify":           "the watch cache makes its own bookmarks",
		"RunTestGetListWithErrorAggregation":      swapsTransformer,
		"RunTestGetListWithoutErrorAggregation":   swapsTransformer,
		"RunTestGuaranteedUpdate":                 swapsTransformer,
		"RunTestGuaranteedUpdateChecksStoredData": swapsTransformer,
		"RunTestListResourceVersionMatch":         swapsTransformer,
		"RunTestTransformationFailure":            swapsTransformer,
		"RunTestWatchError":                       swapsTransformer,
		"RunTestWatchWithUnsafeDelete":            swapsTransformer,
		"RunWatchErrorIsBlockingFurtherEvents":    swapsTransformer,
		"RunTestListInconsistentContinuation":     "it wants an error for a page that the watch cache still has",
		"RunTestWatchContextCancel":               "a watch of the cache ends with its server, and is given out before the context is looked at",
	}
)

const swapsTransformer = "it changes what is stored behind the back of the watch cache"
