package handlerchain

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	genericapiserver "k8s.io/apiserver/pkg/server"
)

func does(steps string) http.Header { return with("X-Do", steps) }

// handlers: what the innermost handler does with its writer.
var handlers = []call{
	{name: "status 404", target: widget, as: "alice", header: does("status:404 write end")},
	{name: "status 500", target: widget, as: "alice", header: does("status:500 write end"), core: true},
	{name: "status 204", method: "DELETE", target: widget, as: "alice", header: does("status:204 end")},
	{name: "status 304", target: widget, as: "alice", header: does("status:304 end")},
	{name: "status twice", target: widget, as: "alice", header: does("status:201 status:500 write end")},
	{name: "informational status", target: widget, as: "alice", header: does("header:early status:103 write end")},
	{name: "nothing, to which only ours adds what filters said", target: widget, as: "alice", header: does("end"), differs: func(c *genericapiserver.Config, o *observation) {
		if c.FlowControl != nil {
			o.Answers[0].Header["X-Kubernetes-Pf-Flowschema-Uid"] = []string{""}
			o.Answers[0].Header["X-Kubernetes-Pf-Prioritylevel-Uid"] = []string{""}
		}
	}},
	{name: "nothing to a watch", target: widgets + "?watch=1", as: "alice", header: does("end")},
	{name: "flush only", target: widget, as: "alice", header: does("flush end")},
	{name: "flush in between", target: widget, as: "alice", header: does("write flush write flush")},
	{name: "flush by controller", target: widget, as: "alice", header: does("write control-flush write end")},
	{name: "header after writing", target: widget, as: "alice", header: does("header:one write header:two end")},
	{name: "headers of the chain replaced", target: widget, as: "alice", header: does("replace"), core: true},
	{name: "headers of the chain removed, which only ours lets the handler do", target: widget, as: "alice", header: does("remove"), differs: func(_ *genericapiserver.Config, o *observation) {
		o.Answers[0].Header.Del("Audit-Id")
		o.Answers[0].Header.Del("Cache-Control")
	}},
	{name: "headers of the chain removed from a watch", target: widgets + "?watch=1", as: "alice", header: does("remove")},
	{name: "trailer, which only ours delivers", target: widget, as: "alice", header: does("trailer end"), differs: func(_ *genericapiserver.Config, o *observation) {
		o.Answers[0].Trailer = http.Header{"X-Trailer": {"there"}}
	}},
	{name: "trailer of a watch", target: widgets + "?watch=1", as: "alice", header: does("trailer end")},
	{name: "copied", target: widget, as: "alice", header: does("readfrom readfrom end")},
	{name: "warning", target: widget, as: "alice", header: does("warn:care warn:care warn:more"), core: true},
	{name: "warning too late", target: widget, as: "alice", header: does("write flush warn:care end")},
	{name: "annotation", target: widget, as: "alice", header: does("annotate:one annotate:two"), core: true},
	{name: "note in the log", target: widget, as: "alice", header: does("log:noted")},
	{name: "note in the trace", target: widget, as: "alice", header: does("span:noted trackers"), core: true},
	{name: "long", target: widget, as: "alice", header: does("trackers rest write"), long: true},
	{name: "panic", target: widget, as: "alice", header: does("panic"), core: true},
	{name: "panic after writing", target: widget, as: "alice", header: does("write flush panic")},
	{name: "panic after writing unflushed", target: widget, as: "alice", header: does("write panic")},
	{name: "panic of a watch", target: widgets + "?watch=1", as: "alice", header: does("write flush panic"), core: true},
	{name: "panic of an early watch", target: widgets + "?watch=1", as: "alice", header: does("panic")},
	{name: "abort", target: widget, as: "alice", header: does("abort"), core: true},
	{name: "abort after writing", target: widget, as: "alice", header: does("write flush abort")},
	{name: "abort of a watch", target: widgets + "?watch=1", as: "alice", header: does("write flush abort")},
	{
		name: "hijack, which is long-running in ours alone", target: widget + "/console", as: "alice", only: "http/1.1",
		header: with("X-Do", "hijack", "Connection", "Upgrade", "Upgrade", "test"), core: true, session: true,
	},
	{name: "another protocol, named without a connection header", target: widget, as: "alice", only: "http/1.1", header: with("Upgrade", "test")},
	{name: "another protocol, not named", target: widget, as: "alice", only: "http/1.1", header: with("Connection", "Upgrade")},
	{
		name: "hijack without a subresource", target: widget, as: "alice", only: "http/1.1",
		header: with("X-Do", "hijack", "Connection", "Upgrade", "Upgrade", "test"), core: true,
	},
	{
		name: "hijack with a timeout that cannot be read", target: widget + "/console?timeout=x", as: "alice", only: "http/1.1",
		header: with("X-Do", "hijack", "Connection", "Upgrade", "Upgrade", "test"), core: true,
	},
	{
		name: "another protocol, not switched to, which is long-running in ours alone", target: widget + "/console", as: "alice", only: "http/1.1",
		header: with("X-Do", "status:400 end", "Connection", "keep-alive, Upgrade", "Upgrade", "test"), session: true,
	},
	{name: "no hijack", target: widget, as: "alice", only: "h2", header: does("hijack")},
	{
		name: "exec", method: "POST", target: api + "/namespaces/ns/pods/p/exec?command=ls", as: "alice", only: "http/1.1",
		header: with("X-Do", "hijack", "Connection", "Upgrade", "Upgrade", "test"), core: true,
	},
	{name: "throttled", target: widget, as: "alice", behind: true, core: true},
	{name: "write beside a read", method: "POST", target: widgets, body: "{}", as: "alice", behind: true},
	{name: "watch beside a read", target: widgets + "?watch=1", as: "alice", behind: true},
	{name: "throttled admin", target: widget, as: "admin", behind: true},
	{name: "throttled with a bad token", target: widget, header: bearer("wrong"), behind: true},
}

// longRunningSession makes a request that asks for another protocol a long-running one:
// it has no deadline, and the beginning of its answer is audited.
func longRunningSession(o *observation) {
	for i := range o.Seen {
		o.Seen[i].Deadline = ""
	}
	var lines []string
	for _, line := range o.Audit {
		if begun := strings.Replace(line, `"ResponseComplete"`, `"ResponseStarted"`, 1); begun != line {
			lines = append(lines, begun)
		}
		lines = append(lines, line)
	}
	if more := len(lines) - len(o.Audit); more > 0 {
		o.Metrics = maps.Clone(o.Metrics)
		o.Metrics["apiserver_audit_event_total{}"] += float64(more)
	}
	o.Audit = lines
}

// noAbort takes away what is counted and logged of an answer that is given up because
// its client has left.
func noAbort(_ *genericapiserver.Config, o *observation) {
	o.Metrics = maps.Clone(o.Metrics)
	maps.DeleteFunc(o.Metrics, func(name string, _ float64) bool { return strings.HasPrefix(name, "apiserver_request_aborts_total{") })
	o.Log = slices.DeleteFunc(slices.Clone(o.Log), func(line string) bool { return line == "panic: "+http.ErrAbortHandler.Error() })
}

// deadlines: the time that a request may take.
var deadlines = []call{
	{name: "timeout that is enough", target: widget + "?timeout=30s", as: "alice", core: true},
	{name: "timeout of nothing", target: widget + "?timeout=0s", as: "alice"},
	{name: "timeout below nothing", target: widget + "?timeout=-1s", as: "alice"},
	{name: "timeout beyond the longest", target: widget + "?timeout=3h", as: "alice"},
	{name: "timeout of no unit", target: widget + "?timeout=30", as: "alice"},
	{name: "bogus timeout", target: widget + "?timeout=bogus", as: "alice", core: true},
	{name: "bogus timeout of the anonymous", target: api + "/namespaces/ns/gadgets?timeout=bogus"},
	{name: "bogus timeout of a watch", target: widgets + "?watch=1&timeout=bogus", as: "alice"},
	{name: "timeout by an escaped name", target: widget + "?%74imeout=20s", as: "alice", core: true},
	{name: "bogus timeout by an escaped name", target: widget + "?time%6Fut=bogus", as: "alice"},
	{name: "two timeouts", target: widget + "?timeout=20s&timeout=bogus", as: "alice"},
	{name: "late", target: widget + "?timeout=30ms", as: "alice", late: true, header: does("wait end"), core: true},
	{name: "late with an answer", target: widget + "?timeout=30ms", as: "alice", late: true, header: does("wait status:502 write")},
	{name: "late with a warning", target: widget + "?timeout=30ms", as: "alice", late: true, header: does("header:early warn:early wait warn:late end")},
	{name: "late, half written", target: widget + "?timeout=30ms", as: "alice", late: true, header: does("write flush wait end")},
	{name: "late, half written, then more", target: widget + "?timeout=30ms", as: "alice", late: true, header: does("write flush wait write flush")},
	{name: "late, written without flush", target: widget + "?timeout=30ms", as: "alice", late: true, header: does("write wait end")},
	{name: "late, only the status", target: widget + "?timeout=30ms", as: "alice", late: true, header: does("status:201 wait end")},
	{name: "late panic", target: widget + "?timeout=30ms", as: "alice", late: true, header: does("wait panic")},
	{name: "late panic, half written", target: widget + "?timeout=30ms", as: "alice", late: true, header: does("write flush wait panic")},
	{name: "late abort", target: widget + "?timeout=30ms", as: "alice", late: true, header: does("wait abort")},
	{name: "late write", method: "POST", target: widgets + "?timeout=30ms", body: "{}", as: "alice", late: true, header: does("wait end")},
	{name: "late list", target: widgets + "?timeout=30ms", as: "alice", late: true, header: does("wait end")},
	{name: "late path", target: api + "?timeout=30ms", as: "alice", late: true, header: does("wait end")},
	{name: "late, audited with everything", target: api + "/namespaces/ns/configs/c?timeout=30ms", as: "alice", late: true, header: does("wait end")},
	{name: "late and impersonated", target: widget + "?timeout=30ms", late: true, header: bearer("token-of-bob", "Impersonate-User", "carol", "X-Do", "wait end")},
}

// departures: clients that leave while their request is being served.
var departures = []call{
	{name: "client leaves", target: widget, as: "alice", late: true, leaves: true, header: does("left end"), core: true},
	{name: "client leaves before the answer", target: widget, as: "alice", late: true, leaves: true, header: does("left status:502 write")},
	{name: "client leaves half an answer, no abort in ours", differs: noAbort, target: widget, as: "alice", late: true, leaves: true, header: does("write flush left write flush")},
	{name: "client leaves an answer unflushed, no abort in ours", differs: noAbort, target: widget, as: "alice", late: true, leaves: true, header: does("write left end")},
	{name: "client leaves, panic", target: widget, as: "alice", late: true, leaves: true, header: does("left panic")},
	{name: "client leaves, abort, not logged by ours", differs: noAbort, target: widget, as: "alice", late: true, leaves: true, header: does("left abort")},
	{name: "client leaves half an answer, abort, not logged by ours", differs: noAbort, target: widget, as: "alice", late: true, leaves: true, header: does("write flush left abort")},
	{name: "client leaves a write", method: "POST", target: widgets, body: "{}", as: "alice", late: true, leaves: true, header: does("read left end")},
	{name: "client leaves, audited with everything", target: api + "/namespaces/ns/configs/c", as: "alice", late: true, leaves: true, header: does("left status:502 write")},
	{name: "client leaves a watch", target: widgets + "?watch=1", as: "alice", leaves: true, header: does("write flush left end"), core: true},
	{name: "client leaves a watch, abort", target: widgets + "?watch=1", as: "alice", leaves: true, header: does("write flush left abort")},
}

// longRunning: requests without a deadline.
var longRunning = []call{
	{name: "watch", target: widgets + "?watch=true&timeoutSeconds=5", as: "alice", header: does("write flush write flush end"), core: true},
	{name: "watch of one", target: widgets + "?watch=1&fieldSelector=metadata.name%3Dw", as: "alice", header: does("write flush end")},
	{name: "denied watch", target: api + "/namespaces/ns/forbidden?watch=1", as: "alice", core: true},
	{name: "watch of a stranger", target: widgets + "?watch=1", header: bearer("wrong")},
	{name: "watch of the anonymous", target: widgets + "?watch=1"},
	{name: "watch that is impersonated", target: widgets + "?watch=1", header: bearer("token-of-bob", "Impersonate-User", "carol")},
	{name: "log of a pod", target: api + "/namespaces/ns/pods/p/log?follow=1", as: "alice", header: does("write flush end")},
	{name: "proxy", target: api + "/namespaces/ns/services/s/proxy/x", as: "alice"},
	{name: "watch with warnings", target: widgets + "?watch=1", as: "alice", header: does("warn:care write flush end")},
}
