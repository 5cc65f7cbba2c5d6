package serving

import (
	"bytes"
	"testing"
	"time"
)

// TestCAsOverlap: a new CA is known an overlap before it signs, and the old one an
// overlap after, which is the time in which replicas may show either certificate.
func TestCAsOverlap(t *testing.T) {
	o := lives(Options{})
	now := time.Now()
	var c *chain
	took := func(want step, at time.Time) {
		t.Helper()
		if s, _ := o.due(c, at); s != want {
			t.Fatalf("%v after the beginning it is time for %q, want %q", at.Sub(now), s, want)
		}
		next, err := o.take(want, c, at)
		if err != nil {
			t.Fatal(err)
		}
		c = next
	}
	rests := func(at time.Time) {
		t.Helper()
		if s, again := o.due(c, at); s != keep || !again.After(at) {
			t.Errorf("%v after the beginning it is time for %q, and to look again at %v", at.Sub(now), s, again)
		}
	}
	took(begin, now)
	rests(now)
	old := c
	late := now.Add(2 * day)
	took(announce, late)
	took(renew, late)
	rests(late)
	rests(late.Add(o.Overlap - 2*time.Second))
	if c.ca.leaf != old.ca.leaf || cas(c.bundle()) != 2 {
		t.Errorf("the announced CA signs, or is not in the bundle of %d", cas(c.bundle()))
	}
	announced := c.bundle()
	promoted := late.Add(o.Overlap)
	took(promote, promoted)
	rests(promoted)
	rests(promoted.Add(o.Overlap - time.Second))
	if cas(c.bundle()) != 2 || !bytes.Contains(c.bundle(), old.ca.cert) {
		t.Error("the old CA is gone as soon as the new one signs")
	}
	for _, part := range []*chain{old, c} {
		if !bytes.Contains(announced, part.ca.cert) {
			t.Error("the bundle before the change does not have both CAs")
		}
	}
	took(retire, promoted.Add(o.Overlap))
	if !bytes.Equal(c.bundle(), c.ca.cert) {
		t.Error("the old CA stays")
	}
	again, err := decode(c.encode())
	if err != nil || !bytes.Equal(again.bundle(), c.bundle()) {
		t.Errorf("what is kept is not what was made: %v", err)
	}
	// Long after its end a server begins anew.
	took(begin, now.Add(30*day))
}
