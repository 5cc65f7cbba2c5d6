import assert from "node:assert/strict";
import { test } from "node:test";
import { atStart, changesBetween } from "../src/changes";
import { Clock } from "../src/clock";
import { ago, bytes, days, milliseconds, percent, span } from "../src/format";
import { byGravity, countByState, matches, seenBy, serversOf, stateOf } from "../src/order";
import { past } from "../src/past";
import { fromAPIService } from "../src/plain";
import { kept, Samples } from "../src/samples";
import { grouped } from "../src/remedy";
import { clean, printable } from "../src/text";
import { takeToken } from "../src/token";
import type { Service, Status } from "../src/types";

const service = (name: string, status: Status): Service => ({ metadata: { name }, status });

test("durations, shares, sizes and ages are read and written", () => {
  assert.equal(milliseconds("12ms"), 12);
  assert.equal(milliseconds("1.5s"), 1500);
  assert.equal(milliseconds("1m30s"), 90000);
  assert.equal(milliseconds("250µs"), 0.25);
  for (const bad of ["", undefined, "soon", "5", "12 ms", "-1s"]) assert.equal(milliseconds(bad), null, String(bad));
  assert.equal(percent("0.5%"), 0.5);
  for (const bad of ["", undefined, "5", "%", "-1%"]) assert.equal(percent(bad), null, String(bad));
  assert.equal(span(59000), "59s");
  assert.equal(span(5 * 60000 + 3000), "5m3s");
  assert.equal(span(50 * 3600000), "2d");
  const now = Date.parse("2026-01-02T00:00:00Z");
  assert.equal(ago("2026-01-01T23:59:00Z", now), "60s");
  assert.equal(ago("2026-01-03T00:00:00Z", now), "0s", "a clock that is ahead");
  for (const bad of ["", null, undefined, "never", "0001-01-01T00:00:00Z"]) assert.equal(ago(bad, now), "", String(bad));
  assert.equal(bytes(2048), "2.0 KiB");
  assert.equal(days(-1), "expired 1 day ago");
  assert.equal(days(1), "1 day left");
});

test("times are told by the API server's clock", () => {
  const local = Date.parse("2026-01-02T00:00:00Z");
  const clock = new Clock();
  assert.equal(clock.now(local), local);
  clock.heard("Sat, 03 Jan 2026 00:00:00 GMT", local);
  assert.equal(clock.now(local), local + 86400000);
  assert.equal(clock.note(), "This machine's clock is 24h behind the API server's; times are told by the API server's.");
  clock.heard("Sat, 03 Jan 2026 00:00:00 GMT", local + 900);
  assert.match(clock.note(), /clock is 24h behind/, "a date has no parts of a second");
  clock.heard("Sat, 03 Jan 2026 00:00:00 GMT", local);
  for (const nothing of [null, "", "soon"]) clock.heard(nothing, local);
  assert.equal(clock.now(local), local + 86400000, "what is no date changes nothing");
  clock.heard("Thu, 01 Jan 2026 00:00:00 GMT", local);
  assert.match(clock.note(), /24h ahead of/);
  clock.heard("Thu, 01 Jan 2026 23:59:45 GMT", local);
  assert.equal(clock.now(local), local, "what the way of an answer explains");
  assert.equal(clock.note(), "");
});

test("what cannot be seen is shown as its code, and nothing is without end", () => {
  assert.equal(printable("a\u001b[31mb\u202ec\u0000"), "a\\u001b[31mb\\u202ec\\u0000");
  assert.equal(printable("x".repeat(5000)).length, 2001);
  assert.equal(printable("two\nlines\tand <b>markup</b>"), "two\nlines\tand <b>markup</b>");
  const cleaned = clean({ a: ["\u0007"], b: { c: "\u200f" }, n: 1, t: true, nothing: null });
  assert.deepEqual(JSON.parse(JSON.stringify(cleaned)), { a: ["\\u0007"], b: { c: "\\u200f" }, n: 1, t: true, nothing: null });
  assert.equal(clean(new Array(6000).fill(1)).length, 5000);
  const polluted = clean(JSON.parse('{"__proto__": {"polluted": true}}'));
  assert.equal(({} as any).polluted, undefined);
  assert.equal((polluted as any).polluted, undefined);
  let deep: any = "end";
  for (let i = 0; i < 50; i++) deep = { deep };
  assert.ok(JSON.stringify(clean(deep)).length < 300);
});

test("the gravest is first, and filters find by word and state", () => {
  const all = [
    service("v1.a", { state: "Healthy" }), service("v1.b", { state: "Unavailable", reason: "MissingEndpoints" }),
    service("v1.c", { state: "Degraded", faults: [{ code: "ANX123", reason: "Old" }] }), service("v1.d", { state: "Odd" as any }), service("v1.0", { state: "Healthy" }),
  ];
  assert.deepEqual(all.toSorted(byGravity).map((s) => s.metadata.name), ["v1.b", "v1.c", "v1.d", "v1.0", "v1.a"]);
  assert.equal(stateOf(all[3]!), "Unknown");
  assert.deepEqual(countByState(all), { Unavailable: 1, Degraded: 1, Unknown: 1, Healthy: 2 });
  const found = (words: string, ...states: any[]) => all.filter((s) => matches(s, { words, states })).map((s) => s.metadata.name);
  assert.deepEqual(found("anx123"), ["v1.c"]);
  assert.deepEqual(found("v1 missing"), ["v1.b"]);
  assert.deepEqual(found("", "Healthy", "Degraded"), ["v1.a", "v1.c", "v1.0"]);
  assert.deepEqual(found("b", "Healthy"), []);
});

test("API servers that see it otherwise are told apart", () => {
  const s = service("v1.a", { state: "Healthy", server: "a:6443", views: [{ server: "a:6443", available: "True" }, { server: "b:6443", available: "False" }] });
  const other = service("v1.b", { state: "Unavailable", server: "a:6443" });
  assert.deepEqual(serversOf([s, other]), ["a:6443", "b:6443"]);
  assert.equal(seenBy(s, "a:6443"), "Healthy");
  assert.equal(seenBy(s, "b:6443"), "Unavailable");
  assert.equal(seenBy(other, "b:6443"), "Unavailable");
});

test("an APIService of a plain kube-apiserver says what its condition says", () => {
  const of = (status?: string) => fromAPIService({
    metadata: { name: "v1.a" }, spec: { group: "a", version: "v1", service: { namespace: "ns", name: "svc" } },
    status: status === undefined ? undefined : { conditions: [{ type: "Available", status, reason: "R", message: "M", lastTransitionTime: "T" }] },
  })!.status;
  assert.deepEqual(of("True"), { group: "a", version: "v1", service: "ns/svc:443", state: "Healthy", reason: "", message: "M", since: "T" });
  assert.equal(of("False").state, "Unavailable");
  assert.equal(of("False").reason, "R");
  assert.equal(of("odd").state, "Unknown");
  assert.equal(of().state, "Unknown");
  assert.equal(fromAPIService({ metadata: { name: "v1.local" }, spec: { group: "", version: "v1" } }), null);
});

test("what happened before is told as Events note it", () => {
  const event = (message: string, more = {}) => ({
    involvedObject: { kind: "APIService", name: "v1.a" }, source: { component: "annex-aggregation" }, reason: "R", message, lastTimestamp: "2026-01-02T00:00:00Z", ...more,
  });
  const at = Date.parse("2026-01-02T00:00:00Z");
  assert.deepEqual(past([
    event("APIService is unavailable: no endpoint", { count: 3 }),
    event("APIService is available, and something is wrong: one is left out", { lastTimestamp: "2026-01-02T00:00:01Z" }),
    event("APIService is available: all checks passed", { lastTimestamp: "2026-01-02T00:00:02Z" }),
    event("APIService is unavailable: by somebody else", { source: { component: "kubelet" } }),
    event("APIService is unavailable", { involvedObject: { kind: "Pod", name: "v1.a" } }),
    event("APIService is unavailable", { lastTimestamp: null }),
    event("it has a takeover"), {}, { message: undefined },
  ]), [
    { name: "v1.a", what: "became Healthy", why: "", state: "Healthy", at: at + 2000 },
    { name: "v1.a", what: "became Degraded", why: "R: one is left out", state: "Degraded", at: at + 1000 },
    { name: "v1.a", what: "became Unavailable, for the 3rd time", why: "R: no endpoint", state: "Unavailable", at },
  ]);
});

test("the timeline tells of each change, and why", () => {
  const what = (a?: Status, b?: Status) => changesBetween(a && service("x", a), b && service("x", b)).map((c) => [c.what, c.why, c.state]);
  assert.deepEqual(what(undefined, { state: "Healthy" }), [["registered", "Healthy", "Healthy"]]);
  assert.deepEqual(what({ state: "Healthy" }), [["deleted", "", "Unknown"]]);
  assert.deepEqual(what(), []);
  assert.deepEqual(what({ state: "Healthy" }, { state: "Healthy", latency: { p50: "1ms" } }), [], "figures are no change");
  assert.deepEqual(what({ state: "Healthy" }, { state: "Unavailable", reason: "R", message: "m" }), [["Healthy → Unavailable", "R: m", "Unavailable"]]);
  assert.deepEqual(what({ state: "Unavailable", reason: "R" }, { state: "Unavailable", reason: "S" }), [["Unavailable, for another reason", "S", "Unavailable"]]);
  assert.deepEqual(what({ state: "Degraded" }, { state: "Degraded", faults: [{ code: "ANX101", reason: "F", message: "m" }] }), [["fault ANX101", "m", "Degraded"]]);
  assert.deepEqual(
    what({ state: "Healthy", endpoints: [{ address: "a", state: "Healthy" }, { address: "b", state: "Healthy" }] },
      { state: "Healthy", endpoints: [{ address: "a", state: "Unreachable", lastError: { message: "refused" } }, { address: "c", state: "Healthy" }] }),
    [["endpoint a: Healthy → Unreachable", "refused", "Unavailable"], ["endpoint c is there", "Healthy", "Healthy"], ["endpoint b is gone", "", "Healthy"]]);
  assert.deepEqual(what({ state: "Healthy", discovery: { freshness: "Current" } }, { state: "Healthy", discovery: { freshness: "Stale", problem: "p" } }),
    [["discovery: Current → Stale", "p", "Degraded"]]);
  assert.deepEqual(what({ state: "Healthy", certificates: { serving: { keyID: "1" } } }, { state: "Healthy", certificates: { serving: { keyID: "2" } } }),
    [["another serving certificate", "", "Healthy"]]);
  assert.equal(atStart(service("x", { state: "Healthy" })), null);
  assert.equal(atStart(service("x", { state: "Degraded", reason: "R" }))!.what, "has been Degraded");
});

test("samples are kept in rings, with the highest of all", () => {
  const samples = new Samples();
  const a = service("a", { latency: { p50: "1ms", p99: "5ms" }, errorRate: "1%", limits: { inFlight: 2 } });
  const b = service("b", { latency: { p50: "2ms", p99: "9ms" }, limits: { inFlight: 3 } });
  samples.take([a, b], 1000);
  samples.take([a], 3000);
  assert.deepEqual(samples.of(), { at: [1, 3], p50: [null, null], p99: [9, 5], errors: [1, 1], inFlight: [5, 2] });
  assert.deepEqual(samples.of("b"), { at: [1, 3], p50: [2, null], p99: [9, null], errors: [null, null], inFlight: [3, null] });
  assert.equal(samples.slowest, "a");
  assert.equal(samples.worst, "a");
  for (let i = 0; i < kept; i++) samples.take([a], 5000 + i);
  assert.equal(samples.of("a").at.length, kept);
  assert.deepEqual(samples.of("b").p99.filter((v) => v !== null), [], "what is gone is forgotten");
});

test("what destroys stands apart from what looks and what changes", () => {
  const groups = grouped([
    { does: "looks", remark: "how they are", command: "kubectl get pods" },
    { does: "looks", command: "kubectl get nodes" },
    { remark: "wait for it" },
    { does: "changes", command: "kubectl annotate pod a b=c" },
    { does: "destroys", command: "kubectl delete pod a", warning: "This takes away Pod a." },
    { does: "destroys", command: "kubectl delete pod b", warning: "This takes away Pod b." },
  ]);
  assert.deepEqual(groups, [
    { does: "looks", title: "Look first; this changes nothing:", lines: ["# how they are", "kubectl get pods", "kubectl get nodes"] },
    { does: "changes", title: "Then mend:", lines: ["# wait for it", "kubectl annotate pod a b=c"] },
    { does: "destroys", title: "This takes away Pod a.", lines: ["kubectl delete pod a"] },
    { does: "destroys", title: "This takes away Pod b.", lines: ["kubectl delete pod b"] },
  ]);
  assert.deepEqual(grouped([{ does: "looks", command: "date" }]).map((g) => g.title), ["Look; this changes nothing:"]);
  assert.deepEqual(grouped([{ does: "new", command: "date" }, { does: "destroys", command: "rm" }]).map((g) => [g.does, g.title]), [["changes", "Mend:"], ["destroys", "This takes something away."]]);
  assert.deepEqual(grouped([]), []);
});

test("the token is taken from the address, and kept by the tab", () => {
  const stored = new Map<string, string>();
  const tab = () => ({ getItem: (k: string) => stored.get(k) ?? null, setItem: (k: string, v: string) => void stored.set(k, v) });
  assert.deepEqual(takeToken("", tab), { token: "", taken: false });
  assert.deepEqual(takeToken("#v1.a.example.com", tab), { token: "", taken: false });
  assert.deepEqual(takeToken("#token=ONE", tab), { token: "ONE", taken: true });
  assert.deepEqual(takeToken("#v1.a.example.com", tab), { token: "ONE", taken: false }, "a page that is loaded anew");
  assert.deepEqual(takeToken("#token=TWO", tab), { token: "TWO", taken: true }, "a later run");
  const none = () => { throw new Error("nothing is stored here"); };
  assert.deepEqual(takeToken("#token=ONE", none), { token: "ONE", taken: true });
  assert.deepEqual(takeToken("", none), { token: "", taken: false });
});
