package devloop

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScenarios runs testdata: a line for each event, and what follows from it. A test begins with
// nothing running.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var s state
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				s = state{}
			}
			var b strings.Builder
			for line := range strings.Lines(d.Input) {
				fields := strings.Fields(line)
				var actions []action
				s, actions = next(s, parse(t, fields))
				fmt.Fprintf(&b, "%s:\n", strings.Join(fields, " "))
				for _, a := range actions {
					fmt.Fprintf(&b, "  %s\n", describe(a))
				}
			}
			return b.String()
		})
	})
}

func parse(t *testing.T, fields []string) event {
	number := func() (n int) {
		if _, err := fmt.Sscan(fields[1], &n); err != nil {
			t.Fatalf("%v: %v", fields, err)
		}
		return n
	}
	switch fields[0] {
	case "saved":
		return saved{}
	case "built":
		return built{fields[1]}
	case "not-built":
		return notBuilt{strings.Join(fields[1:], " ")}
	case "ready":
		return ready{number()}
	case "late":
		return late{number()}
	case "ended":
		return ended{number(), strings.Join(fields[2:], " ")}
	case "stop":
		return stop{}
	}
	t.Fatalf("no event %q", fields[0])
	return nil
}

func describe(a action) string {
	if s, ok := a.(say); ok {
		mark := "say"
		if s.bad {
			mark = "say, bad"
		}
		return fmt.Sprintf("%s: %s", mark, strings.ReplaceAll(s.text, "\n", "\\n"))
	}
	return strings.TrimSuffix(fmt.Sprintf("%s %s", strings.TrimPrefix(fmt.Sprintf("%T", a), "devloop."), strings.Trim(fmt.Sprint(a), "{}")), " ")
}

// Whatever happens, one server at most serves, one starts, none is forgotten, and a stop ends once
// all of them have ended.
func FuzzNothingIsForgotten(f *testing.F) {
	f.Add([]byte{0, 1, 3, 0, 2, 0, 17, 4, 6, 5, 21})
	f.Add([]byte{0, 1, 0, 1, 19, 33, 6, 37, 5})
	f.Fuzz(func(t *testing.T, script []byte) {
		var s state
		running, builds, stopped := map[int]bool{}, 0, false
		do := func(e event) {
			var actions []action
			s, actions = next(s, e)
			for _, a := range actions {
				switch a := a.(type) {
				case build:
					builds++
				case start:
					running[a.server] = true
				case retire:
					if !running[a.server] {
						t.Fatalf("server %d is retired and does not run", a.server)
					}
				case hurry:
					if !running[a.server] {
						t.Fatalf("server %d is stopped and does not run", a.server)
					}
				case finish:
					if len(running) > 0 || builds > 0 {
						t.Fatalf("finished with servers %v and %d builds", running, builds)
					}
					stopped = true
				}
			}
			known := len(s.leaving)
			for _, one := range []server{s.serving, s.starting} {
				if one.exists() {
					known++
				}
			}
			if known != len(running) || builds > 1 {
				t.Fatalf("%+v knows %d servers of %v, %d builds run", s, known, running, builds)
			}
		}
		for _, b := range script {
			number := int(b/8)%4 + max(s.started-3, 1)
			switch b % 8 {
			case 0:
				do(saved{})
			case 1, 2:
				if builds > 0 {
					builds--
					if b%8 == 1 {
						do(built{string('a' + rune(b/64))})
					} else {
						do(notBuilt{"why"})
					}
				}
			case 3:
				if running[number] {
					do(ready{number})
				}
			case 4:
				if running[number] {
					do(late{number})
				}
			case 5:
				if running[number] {
					delete(running, number)
					do(ended{number, "why"})
				}
			}
		}
		do(stop{})
		if builds > 0 {
			builds--
			do(built{"z"})
		}
		for number := range running {
			delete(running, number)
			do(ended{number, "why"})
		}
		if !stopped {
			t.Fatalf("%+v does not finish", s)
		}
	})
}
