package ring

import (
	"strconv"
	"time"
)

// A Moment is a resourceVersion of a source as a number. What is shown of an object at one
// moment is the same at every replica. Zero is none: the source's is no number, or too great.
type Moment uint64

const (
	// A resourceVersion that is made of a Moment has these bits of the replica, a step, and
	// the moment before them.
	momentReplicaBits = 16
	momentStepBits    = 6

	// exactStep is the step of what is of the moment itself. Those below and above it are for
	// events that have no moment of their own, such as what a list no longer has.
	exactStep = 1 << (momentStepBits - 1)
	stepMask  = 1<<momentStepBits - 1

	maxMoment Moment = 1<<(63-momentStepBits-momentReplicaBits) - 1
)

// ParseMoment reads the resourceVersion of a source.
func ParseMoment(resourceVersion string) Moment {
	n, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil || Moment(n) > maxMoment {
		return 0
	}
	return Moment(n)
}

// momentOf is the moment in a resourceVersion of any replica; false if it is of none.
func momentOf(version uint64) (Moment, bool) {
	count := version >> momentReplicaBits
	return Moment(count >> momentStepBits), count&stepMask == exactStep
}

// numbers issues the resourceVersions of one replica.
type numbers struct {
	replica Replica
	// byMoment makes them of moments. Otherwise, and where there is none, they are times.
	byMoment bool
}

// at is the resourceVersion of a moment; zero if it has none.
func (n numbers) at(m Moment) uint64 {
	if !n.byMoment || m == 0 {
		return 0
	}
	return (uint64(m)<<momentStepBits|exactStep)<<momentReplicaBits | uint64(n.replica)
}

// next is the resourceVersion of an event at a time, after another. It is that of its moment
// unless a later one has been issued.
func (n numbers) next(now time.Time, last uint64, m Moment) uint64 {
	if !n.byMoment {
		return n.replica.next(now, last)
	}
	if v := n.at(m); v > last {
		return v
	}
	count := last>>momentReplicaBits + 1
	if m == 0 { // the same microseconds as in the other form, less exact
		count = max(count, uint64(max(now.UnixMicro(), 0))>>(momentReplicaBits-replicaBits))
	}
	return n.inexact(count)
}

// soonAfter is the resourceVersion of an event whose moment is not known, but that was before
// any that is yet to come.
func (n numbers) soonAfter(now time.Time, last uint64) uint64 {
	if !n.byMoment {
		return n.replica.next(now, last)
	}
	return n.inexact(last>>momentReplicaBits + 1)
}

// inexact has no step of a moment's own.
func (n numbers) inexact(count uint64) uint64 {
	if count&stepMask == exactStep {
		count++
	}
	return count<<momentReplicaBits | uint64(n.replica)
}

// issued says whether a resourceVersion has the bits of this replica.
func (n numbers) issued(version uint64) bool {
	if n.byMoment {
		return Replica(version) == n.replica
	}
	return n.replica.issued(version)
}

// later says whether a resourceVersion, of whatever replica, is of a later time or moment.
func (n numbers) later(version, last uint64) bool {
	if n.byMoment {
		return version>>momentReplicaBits > last>>momentReplicaBits
	}
	return version > last
}
