package broken

// Fault is a mistake that can be planted. The empty one is none.
type Fault string

// The mistakes that servers made by hand share, with the number of each in comments.
const (
	None Fault = ""

	NoInitialEventsEnd    Fault = "no-initial-events-end"    // 1
	EndOnEveryBookmark    Fault = "end-on-every-bookmark"    // 1
	InitialEventLost      Fault = "initial-event-lost"       // 1
	WatchReplays          Fault = "watch-replays"            // 2
	ExpiredIsSilent       Fault = "expired-is-silent"        // 3
	ListWithoutVersion    Fault = "list-without-version"     // 3
	VersionIsNoInteger    Fault = "version-is-no-integer"    // 3
	DeletedIsEmpty        Fault = "deleted-is-empty"         // 4
	DeletedIsDropped      Fault = "deleted-is-dropped"       // 4
	DeletedUnfiltered     Fault = "deleted-unfiltered"       // 4
	SelectorsIgnored      Fault = "selectors-ignored"        // 4
	WatchNeverEnds        Fault = "watch-never-ends"         // 5
	OpenAfterError        Fault = "open-after-error"         // 5
	StuckAfterStop        Fault = "stuck-after-stop"         // 5
	GetUnauthorized       Fault = "get-unauthorized"         // 6
	WatchUnauthorized     Fault = "watch-unauthorized"       // 6
	LostUpdate            Fault = "lost-update"              // 7
	ForeignMetadataWiped  Fault = "foreign-metadata-wiped"   // 7
	UntypedErrors         Fault = "untyped-errors"           // 7
	FinalizerIgnored      Fault = "finalizer-ignored"        // 7
	ApplyInternalVersion  Fault = "apply-internal-version"   // 8
	NoAuthentication      Fault = "no-authentication"        // 9
	AdmissionPassedBy     Fault = "admission-passed-by"      // 9
	NeverReady            Fault = "never-ready"              // 10
	WritesNotReady        Fault = "writes-not-ready"         // 10
	NoOpenAPIV2           Fault = "no-openapi-v2"            // 11
	BadModel              Fault = "bad-model"                // 11
	ProtobufRefused       Fault = "protobuf-refused"         // 12
	StreamCut             Fault = "stream-cut"               // 13
	EmptyWhileDown        Fault = "empty-while-down"         // 14
	GenerationByLabels    Fault = "generation-by-labels"     // 15
	GenerationByStatus    Fault = "generation-by-status"     // 15
	CommonNameOnly        Fault = "common-name-only"         // 16
	CertificateSoonOver   Fault = "certificate-soon-over"    // 16
	BundleNotRestored     Fault = "bundle-not-restored"      // 16
	OtherVersionLosesData Fault = "other-version-loses-data" // 17
)
