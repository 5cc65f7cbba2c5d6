package limit

import "time"

// perSecond counts what happens in a second, and keeps the count of the one before. Its
// owner's lock guards it.
type perSecond struct {
	second      int64
	count, last int
}

// add counts one, and returns how many there were in this second or the one before,
// whichever had more.
func (c *perSecond) add(now time.Time) int {
	switch second := now.Unix(); second - c.second {
	case 0:
	case 1:
		*c = perSecond{second: second, last: c.count}
	default:
		*c = perSecond{second: second}
	}
	c.count++
	return max(c.count, c.last)
}
