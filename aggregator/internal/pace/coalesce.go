package pace

import "time"

// Step is the time between the moments at which pauses end: multiples of it since
// the Unix epoch. Loops and timers that wake a quiet server together cost less than
// those that wake it one by one. A connection is checked so long after a request, which is at the
// moment of the next requests.
const Step = 3 * time.Second

// Shorten returns d, or up to an eighth less, so that a pause that begins now ends on
// such a moment. A pause that no moment is near enough to is left as it is.
func Shorten(d time.Duration) time.Duration { return shorten(time.Now(), d) }

func shorten(now time.Time, d time.Duration) time.Duration {
	late := time.Duration(now.Add(d).UnixNano() % int64(Step))
	if late > d/8 {
		return d
	}
	return d - late
}
