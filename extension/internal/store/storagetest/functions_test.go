package storagetest

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	upstream "k8s.io/apiserver/pkg/storage/testing"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

// function is one of upstream's test functions, in one of its places.
type function struct {
	name string
	run  func(ctx context.Context, t *testing.T, f *fixture)
}

// leaseReuse is for how long a lease is given to further objects, and so for how much longer than asked an
// object may live. Functions that wait for an end wait half a minute at most; the others are over before it.
func (f function) leaseReuse() int64 {
	if strings.HasSuffix(f.name, "WithTTL") {
		return 1
	}
	return 60
}

// plain makes functions of those that want nothing but a storage.
func plain(storageOf func(*testing.T, *fixture) storage.Interface, functions map[string]func(context.Context, *testing.T, storage.Interface)) []function {
	var all []function
	for name, run := range functions {
		all = append(all, function{name, func(ctx context.Context, t *testing.T, f *fixture) { run(ctx, t, storageOf(t, f)) }})
	}
	return all
}

// everywhere are the functions that upstream runs over the store and over the watch cache alike.
var everywhere = map[string]func(context.Context, *testing.T, storage.Interface){
	"CreateWithTTL":                              upstream.RunTestCreateWithTTL,
	"CreateWithKeyExist":                         upstream.RunTestCreateWithKeyExist,
	"Get":                                        upstream.RunTestGet,
	"UnconditionalDelete":                        upstream.RunTestUnconditionalDelete,
	"ConditionalDelete":                          upstream.RunTestConditionalDelete,
	"DeleteWithSuggestion":                       upstream.RunTestDeleteWithSuggestion,
	"DeleteWithSuggestionAndConflict":            upstream.RunTestDeleteWithSuggestionAndConflict,
	"DeleteWithConflict":                         upstream.RunTestDeleteWithConflict,
	"DeleteWithSuggestionOfDeletedObject":        upstream.RunTestDeleteWithSuggestionOfDeletedObject,
	"ValidateDeletionWithSuggestion":             upstream.RunTestValidateDeletionWithSuggestion,
	"ValidateDeletionWithOnlySuggestionValid":    upstream.RunTestValidateDeletionWithOnlySuggestionValid,
	"PreconditionalDeleteWithSuggestion":         upstream.RunTestPreconditionalDeleteWithSuggestion,
	"PreconditionalDeleteWithOnlySuggestionPass": upstream.RunTestPreconditionalDeleteWithOnlySuggestionPass,
	"DeleteWithSuggestionAndMissingExpectedTransformOrDecodeError": func(ctx context.Context, t *testing.T, s storage.Interface) {
		upstream.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(ctx, t, s)
	},
	"GetListRecursivePrefix":                    upstream.RunTestGetListRecursivePrefix,
	"GuaranteedUpdateWithTTL":                   upstream.RunTestGuaranteedUpdateWithTTL,
	"GuaranteedUpdateWithConflict":              upstream.RunTestGuaranteedUpdateWithConflict,
	"GuaranteedUpdateWithSuggestionAndConflict": upstream.RunTestGuaranteedUpdateWithSuggestionAndConflict,
	"ListPaging":                                upstream.RunTestListPaging,
	"KeySchema":                                 upstream.RunTestKeySchema,
	"Watch":                                     upstream.RunTestWatch,
	"DeleteTriggerWatch":                        upstream.RunTestDeleteTriggerWatch,
	"WatchFromNonZero":                          upstream.RunTestWatchFromNonZero,
	"DelayedWatchDelivery":                      upstream.RunTestDelayedWatchDelivery,
	"WatcherTimeout":                            upstream.RunTestWatcherTimeout,
	"WatchDeleteEventObjectHaveLatestRV":        upstream.RunTestWatchDeleteEventObjectHaveLatestRV,
	"WatchInitializationSignal":                 upstream.RunTestWatchInitializationSignal,
	"SendInitialEventsBackwardCompatibility":    upstream.RunSendInitialEventsBackwardCompatibility,
}

func raw(_ *testing.T, f *fixture) storage.Interface { return f.store }

// overStore are the functions over the etcd3 store.
var overStore = append(plain(raw, everywhere), append(plain(raw, map[string]func(context.Context, *testing.T, storage.Interface){
	"NamespaceScopedList":                upstream.RunTestNamespaceScopedList,
	"WatchContextCancel":                 upstream.RunTestWatchContextCancel,
	"ClusterScopedWatch":                 upstream.RunTestClusterScopedWatch,
	"NamespaceScopedWatch":               upstream.RunTestNamespaceScopedWatch,
	"WatchSemantics":                     upstream.RunWatchSemantics,
	"WatchSemanticInitialEventsExtended": upstream.RunWatchSemanticInitialEventsExtended,
	"WatchListMatchSingle":               upstream.RunWatchListMatchSingle,
}), []function{
	{"Create", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestCreate(ctx, t, f.store, f.storedWithoutVersion)
	}},
	{"List", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestList(ctx, t, f.store, f.compact(f.store.CompactRevision), false, f.recorder)
	}},
	{"ConsistentList", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestConsistentList(ctx, t, f.store, f.increaseRevision, false, true, false)
	}},
	{"GetListNonRecursive", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestGetListNonRecursive(ctx, t, f.increaseRevision, f.store)
	}},
	{"ListContinuation", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestListContinuation(ctx, t, f.store, anyCalls)
	}},
	{"ListPaginationRareObject", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestListPaginationRareObject(ctx, t, f.store, anyCalls)
	}},
	{"ListContinuationWithFilter", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestListContinuationWithFilter(ctx, t, f.store, anyCalls)
	}},
	{"ListInconsistentContinuation", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestListInconsistentContinuation(ctx, t, f.store, f.compact(f.store.CompactRevision))
	}},
	{"CompactRevision", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestCompactRevision(ctx, t, f.store, f.increaseRevision, f.compact(f.store.CompactRevision))
	}},
	{"Stats", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestStats(ctx, t, f.store, f.codec, f.transformer, false)
	}},
	{"WatchFromZero", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestWatchFromZero(ctx, t, f.store, f.compact(f.store.CompactRevision))
	}},
	{"WatchDispatchBookmarkEvents", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestWatchDispatchBookmarkEvents(ctx, t, f.store, false)
	}},
	{"ProgressNotify", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunOptionalTestProgressNotify(ctx, t, f.store, f.increaseRevision)
	}},
	{"DeleteWithConflictAndMissingExpectedTransformOrDecodeError", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(ctx, t, f.store, f.codec.fails.Store)
	}},
	{"DeleteExpectedTransformError", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestDeleteExpectedTransformOrDecodeError(ctx, t, f.store, f.unreadable)
	}},
	{"DeleteExpectedDecodeError", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestDeleteExpectedTransformOrDecodeError(ctx, t, f.store, f.codec.fails.Store)
	}},
	{"ListResourceVersionMatch", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestListResourceVersionMatch(ctx, t, withPrefix{f.store, f})
	}},
	{"GuaranteedUpdate", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestGuaranteedUpdate(ctx, t, withPrefix{f.store, f}, f.storedWithoutVersion)
	}},
	{"GuaranteedUpdateChecksStoredData", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestGuaranteedUpdateChecksStoredData(ctx, t, withPrefix{f.store, f})
	}},
	{"TransformationFailure", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestTransformationFailure(ctx, t, withPrefix{f.store, f})
	}},
	{"WatchError", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestWatchError(ctx, t, withPrefix{f.store, f})
	}},
	{"WatchErrorIsBlockingFurtherEvents", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunWatchErrorIsBlockingFurtherEvents(ctx, t, withPrefix{f.store, f})
	}},
	{"GetListWithErrorAggregation", func(ctx context.Context, t *testing.T, f *fixture) {
		deleting := etcd3.NewStoreWithUnsafeCorruptObjectDeletion(f.store, podResource)
		upstream.RunTestGetListWithErrorAggregation(ctx, t, withTransformer{deleting, f}, corrupt())
	}},
	{withoutAggregation, func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestGetListWithoutErrorAggregation(ctx, t, withTransformer{f.store, f}, corrupt())
	}},
	{"WatchWithUnsafeDelete", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestWatchWithUnsafeDelete(ctx, t, withTransformer{f.store, f}, corrupt())
	}},
}...)...)

func cached(t *testing.T, f *fixture) storage.Interface { return f.cached(t, cacheOptions{}) }

// overCache are the functions over the watch cache.
var overCache = append(plain(cached, everywhere), []function{
	{"Create", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestCreate(ctx, t, f.cached(t, cacheOptions{}), f.storedWithoutVersion)
	}},
	{"List", func(ctx context.Context, t *testing.T, f *fixture) {
		c := f.cached(t, cacheOptions{})
		upstream.RunTestList(ctx, t, c, f.compact(c.CompactRevision), true, f.recorder)
	}},
	{"ConsistentList", func(ctx context.Context, t *testing.T, f *fixture) {
		snapshots := utilfeature.DefaultFeatureGate.Enabled(features.ListFromCacheSnapshot)
		upstream.RunTestConsistentList(ctx, t, f.cached(t, cacheOptions{}), f.increaseRevision, true, true, snapshots)
	}},
	{"GetListNonRecursive", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestGetListNonRecursive(ctx, t, f.increaseRevision, f.cached(t, cacheOptions{}))
	}},
	{"ListContinuation", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestListContinuation(ctx, t, f.cached(t, cacheOptions{}), anyCalls)
	}},
	{"ListPaginationRareObject", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestListPaginationRareObject(ctx, t, f.cached(t, cacheOptions{}), anyCalls)
	}},
	{"ListContinuationWithFilter", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestListContinuationWithFilter(ctx, t, f.cached(t, cacheOptions{}), anyCalls)
	}},
	{"DeleteWithConflictAndMissingExpectedTransformOrDecodeError", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(ctx, t, f.cached(t, cacheOptions{}), f.unreadable)
	}},
	{"DeleteExpectedTransformError", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestDeleteExpectedTransformOrDecodeError(ctx, t, f.cached(t, cacheOptions{}), f.unreadable)
	}},
	{"DeleteExpectedDecodeError", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestDeleteExpectedTransformOrDecodeError(ctx, t, f.cached(t, cacheOptions{}), f.codec.fails.Store)
	}},
	{"CompactRevision", func(ctx context.Context, t *testing.T, f *fixture) {
		c := f.cached(t, cacheOptions{})
		upstream.RunTestCompactRevision(ctx, t, c, f.increaseRevision, f.compact(c.CompactRevision))
	}},
	{"Stats", func(ctx context.Context, t *testing.T, f *fixture) {
		sized := utilfeature.DefaultFeatureGate.Enabled(features.SizeBasedListCostEstimate)
		upstream.RunTestStats(ctx, t, f.cached(t, cacheOptions{}), f.codec, f.transformer, sized)
	}},
	{"NamespaceScopedList", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestNamespaceScopedList(ctx, t, f.cached(t, cacheOptions{indexed: true}))
	}},
	{"ClusterScopedWatch", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestClusterScopedWatch(ctx, t, f.cached(t, cacheOptions{clusterScoped: true, indexed: true}))
	}},
	{"NamespaceScopedWatch", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestNamespaceScopedWatch(ctx, t, f.cached(t, cacheOptions{indexed: true}))
	}},
	{"WatchFromZero", func(ctx context.Context, t *testing.T, f *fixture) {
		// Without a compaction the function leaves out its last part: upstream's own compacts the
		// history of the cache through private fields.
		upstream.RunTestWatchFromZero(ctx, t, f.cached(t, cacheOptions{}), nil)
	}},
	{"WatchDispatchBookmarkEvents", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestWatchDispatchBookmarkEvents(ctx, t, f.cached(t, cacheOptions{}), true)
	}},
	{"WatchBookmarksWithCorrectResourceVersion", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunTestOptionalWatchBookmarksWithCorrectResourceVersion(ctx, t, f.cached(t, cacheOptions{}))
	}},
	{"WatchSemantics", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunWatchSemantics(ctx, t, seenByCache{f.cached(t, cacheOptions{})})
	}},
	{"WatchSemanticInitialEventsExtended", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunWatchSemanticInitialEventsExtended(ctx, t, seenByCache{f.cached(t, cacheOptions{})})
	}},
	{"WatchListMatchSingle", func(ctx context.Context, t *testing.T, f *fixture) {
		upstream.RunWatchListMatchSingle(ctx, t, seenByCache{f.cached(t, cacheOptions{})})
	}},
}...)

// anyCalls: how many requests a list takes is not counted here.
func anyCalls(*testing.T, uint64, uint64) {}

// withoutAggregation wants a store whose lists end at the first object that cannot be read.
const withoutAggregation = "GetListWithoutErrorAggregation"

// alone are the functions that nothing runs beside: they set feature gates, which are the process's, or
// have little time.
var alone = map[string]bool{
	withoutAggregation:                   true,
	"WatchSemantics":                     true,
	"WatchSemanticInitialEventsExtended": true,
	"WatchListMatchSingle":               true,
	"Get":                                true, // reads an object that lives for a second
	"WatchBookmarksWithCorrectResourceVersion": true, // writes a hundred objects in three seconds
}
