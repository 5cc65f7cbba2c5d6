// Package stats counts what the requests to one endpoint of an extension server came
// to: all of them, and those of the last minute with how long their answers took.
//
// It is driven by values. To record a request takes a few additions and no memory.
package stats

import "time"

// The last minute is kept in slots: the present one, which is not over, and those before
// it.
const (
	slots    = 6
	slotTime = 10 * time.Second
)

// Result is what one request came to.
type Result struct {
	// Took is how long the endpoint took to begin its answer. Zero means that it was not
	// measured: that of a watch, for example, tells of events and not of the endpoint.
	Took time.Duration
	// Failed requests are those that brought no answer, or one that says that the server
	// failed.
	Failed bool
}

// Requests are those to one endpoint. The zero value has none. It is used by one
// goroutine at a time.
type Requests struct {
	slots   [slots]slot
	current int       // the present slot
	ends    time.Time // when that is over
	total   Total
}

// slot is what a part of the last minute brought.
type slot struct {
	requests, failed uint32
	took             [buckets]uint32
}

// Record takes note of a request that is answered, or has failed.
func (r *Requests) Record(now time.Time, result Result) {
	r.advance(now)
	s := &r.slots[r.current]
	s.requests++
	r.total.Requests++
	if result.Failed {
		s.failed++
		r.total.Failed++
	}
	if result.Took > 0 {
		b := bucketOf(result.Took)
		s.took[b]++
		r.total.took[b]++
		r.total.Measured++
		r.total.Took += result.Took
	}
}

// advance ends slots whose time is over.
func (r *Requests) advance(now time.Time) {
	late := now.Sub(r.ends)
	switch ended := late/slotTime + 1; {
	case late < 0:
	case ended >= slots:
		r.slots = [slots]slot{}
		r.ends = now.Add(slotTime)
	default:
		for range ended {
			r.current = (r.current + 1) % slots
			r.slots[r.current] = slot{}
		}
		r.ends = r.ends.Add(ended * slotTime)
	}
}

// Recent is what the requests of the last minute came to.
type Recent struct {
	// Requests are all that ended, or were answered; Failed is how many of them failed.
	Requests, Failed uint64
	measured         uint64
	took             [buckets]uint64
}

// Recent adds up the last minute. It is nil where there were no requests.
func (r *Requests) Recent(now time.Time) *Recent {
	r.advance(now)
	var sum *Recent
	for i := range r.slots {
		s := &r.slots[i]
		if s.requests == 0 {
			continue
		}
		if sum == nil {
			sum = &Recent{}
		}
		sum.Requests += uint64(s.requests)
		sum.Failed += uint64(s.failed)
		for b, n := range s.took {
			sum.took[b] += uint64(n)
			sum.measured += uint64(n)
		}
	}
	return sum
}

// Add adds another endpoint's, or nil.
func (r *Recent) Add(other *Recent) {
	if other == nil {
		return
	}
	r.Requests += other.Requests
	r.Failed += other.Failed
	r.measured += other.measured
	for b, n := range other.took {
		r.took[b] += n
	}
}

// Quantile is the time that a share q of the measured answers, above 0 and at most 1, did
// not exceed, to within an eighth; zero where none was measured.
func (r *Recent) Quantile(q float64) time.Duration {
	rank := q * float64(r.measured)
	below := 0.0
	for b, n := range r.took {
		if n == 0 {
			continue
		}
		if below+float64(n) >= rank {
			share := max(0, (rank-below)/float64(n))
			low, high := lower(b), lower(b+1)
			return low + time.Duration(share*float64(high-low))
		}
		below += float64(n)
	}
	return 0
}

// Total is what all requests came to since the endpoint is known. It only grows.
type Total struct {
	Requests, Failed uint64
	// Measured is how many answers were measured, and Took how long they took together.
	Measured uint64
	Took     time.Duration
	took     [buckets]uint64
}

// Plus is what this and another endpoint's came to together.
func (t Total) Plus(other Total) Total {
	t.Requests += other.Requests
	t.Failed += other.Failed
	t.Measured += other.Measured
	t.Took += other.Took
	for b, n := range other.took {
		t.took[b] += n
	}
	return t
}

// Count is how many there were, and how many of them failed.
func (r *Requests) Count() (requests, failed uint64) { return r.total.Requests, r.total.Failed }

// Total returns the sums.
func (r *Requests) Total() Total { return r.total }

// Histogram counts the measured answers that took less than each of Bounds, in seconds.
func (t *Total) Histogram() map[float64]uint64 {
	counts := make(map[float64]uint64, len(bounds))
	sum, b := uint64(0), 0
	for _, bound := range bounds {
		for ; b < bucketOf(bound); b++ {
			sum += t.took[b]
		}
		counts[bound.Seconds()] = sum
	}
	return counts
}
