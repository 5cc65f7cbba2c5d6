package handlerchain

import "testing"

// Logging can be switched on for the filter alone, by the name of its file.
func TestRequestsAreLoggedByModule(t *testing.T) {
	ids := newIdentities(t)
	p := pair{newWorld(t, ids, reference, nil), newWorld(t, ids, ours, nil)}
	defer p.stop()
	p.warm(t)
	if err := verbosity.Set("vmodule", "httplog=3"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := verbosity.Set("vmodule", ""); err != nil {
			t.Error(err)
		}
	}()
	c := call{name: "a request", as: "alice", target: widget}
	p.compare(t, setting{slow: true}, c)
	if len(p.ours.observe(t, "h2", c, nil).Log) == 0 {
		t.Error("a request was not logged")
	}
}
