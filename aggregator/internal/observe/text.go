package observe

import (
	"strconv"
	"time"
)

// twoFigures is a time of which two figures count: an idle server's does not change.
func twoFigures(d time.Duration) string {
	value, unit := d.Seconds(), "s"
	if d < 995*time.Millisecond {
		value, unit = value*1000, "ms"
	}
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(value, 'g', 2, 64), 64)
	return strconv.FormatFloat(rounded, 'f', -1, 64) + unit
}
