package catalog

// WatchListSupport is whether an extension server ends the initial events of a
// watch that asks for them (sendInitialEvents) with the bookmark that clients
// wait for.
type WatchListSupport string

// What is known of an extension server's watches.
const (
	// WatchListUnknown is everything that is not known for sure.
	WatchListUnknown WatchListSupport = ""
	// WatchListWorks: the bookmark came.
	WatchListWorks WatchListSupport = "Works"
	// WatchListMissing: the watch was taken, and the bookmark did not come. A
	// client that waits for it waits for ever.
	WatchListMissing WatchListSupport = "Missing"
	// WatchListRefused: the server refuses such a watch, and clients list instead.
	WatchListRefused WatchListSupport = "Refused"
)
