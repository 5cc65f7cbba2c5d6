package ring

import (
	"math/rand/v2"
	"time"
)

const (
	replicaBits = 10
	replicaMask = 1<<replicaBits - 1
)

// A Replica tells the resourceVersions of one process from those of another. Beside a
// time only its lowest ten bits count. Two processes may have the same one by chance: then
// a foreign resourceVersion is recognized because it was never issued here.
type Replica uint16

// NewReplica chooses a replica at random.
func NewReplica() Replica { return Replica(rand.N(1 << 16)) }

// next is the resourceVersion of an event at the given time, after another.
func (r Replica) next(now time.Time, last uint64) uint64 {
	clock := max(last>>replicaBits+1, uint64(max(now.UnixMicro(), 0)))
	return clock<<replicaBits | r.bits()
}

func (r Replica) bits() uint64 { return uint64(r) & replicaMask }

// issued says whether a resourceVersion has the bits of this replica.
func (r Replica) issued(version uint64) bool { return version&replicaMask == r.bits() }

// Verdict says what a client's resourceVersion is to a ring.
type Verdict int

const (
	// Known was issued here, and every event after it is remembered.
	Known Verdict = iota
	// TooOld is older than the window, or than this process. What is there now is
	// newer than it.
	TooOld
	// Unknown was never issued here: it is another replica's, or made up. Nothing can
	// be said about what is newer than it.
	Unknown
	// Ahead is later than all that was issued here, and may yet be.
	Ahead
	// AheadElsewhere is later than all that was issued here, and another replica's: to
	// wait for it is in vain.
	AheadElsewhere
)

func (v Verdict) String() string {
	return [...]string{"known", "too old", "unknown", "ahead", "ahead elsewhere"}[v]
}
