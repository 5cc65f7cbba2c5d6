import { stateOf } from "./order";
import type { Certificate, Endpoint, EndpointState, Service, State } from "./types";

/** Change is a line of the timeline. */
export interface Change { name: string; what: string; why: string; state: State }

const ofEndpoint: Record<EndpointState, State> = {
  Healthy: "Healthy", Ejected: "Degraded", Draining: "Degraded", Unreachable: "Unavailable",
};

/** changesBetween tells what happened from one object to the next; either may be missing. Gravest first. */
export function changesBetween(before: Service | undefined, after: Service | undefined): Change[] {
  const known = after ?? before;
  if (!known) return [];
  const name = known.metadata.name;
  if (!before) return [{ name, what: "registered", why: stateOf(known), state: stateOf(known) }];
  if (!after) return [{ name, what: "deleted", why: "", state: "Unknown" }];
  const found: Change[] = [];
  const add = (what: string, why = "", state: State = stateOf(after)) => found.push({ name, what, why, state });

  const was = stateOf(before), is = stateOf(after);
  if (was !== is) add(`${was} → ${is}`, because(after));
  else if (is !== "Healthy" && before.status.reason !== after.status.reason) add(`${is}, for another reason`, because(after));

  const faults = new Set((before.status.faults ?? []).map((f) => `${f.code} ${f.reason}`));
  for (const f of after.status.faults ?? []) {
    if (!faults.has(`${f.code} ${f.reason}`)) add(`fault ${f.code || f.reason || "without a name"}`, f.message);
  }
  endpoints(before.status.endpoints ?? [], after.status.endpoints ?? [], add);
  for (const [title, old, now] of [
    ["discovery", before.status.discovery, after.status.discovery],
    ["OpenAPI v2", before.status.openAPIV2, after.status.openAPIV2],
    ["OpenAPI v3", before.status.openAPIV3, after.status.openAPIV3],
  ] as const) {
    if (old?.freshness && now?.freshness && old.freshness !== now.freshness) {
      add(`${title}: ${old.freshness} → ${now.freshness}`, now.problem, now.freshness === "Current" ? "Healthy" : "Degraded");
    }
  }
  if (renewed(before.status.certificates?.serving, after.status.certificates?.serving)) add("another serving certificate");
  const agreed = new Set((before.status.views ?? []).map((v) => `${v.server} ${v.available}`));
  for (const v of (after.status.views ?? []).slice(1)) {
    if (!agreed.has(`${v.server} ${v.available}`)) {
      add(`${v.server} sees it otherwise: available is ${v.available}`, v.reason, "Degraded");
    }
  }
  return found;
}

/** atStart is what the page shows of the time before it was opened. */
export function atStart(s: Service): Change | null {
  const state = stateOf(s);
  return state === "Healthy" ? null : { name: s.metadata.name, what: `has been ${state}`, why: because(s), state };
}

function because(s: Service): string {
  return [s.status.reason, s.status.message].filter(Boolean).join(": ");
}

function endpoints(before: Endpoint[], after: Endpoint[], add: (what: string, why?: string, state?: State) => void) {
  const old = new Map(before.map((e) => [e.address, e]));
  for (const e of after) {
    const was = old.get(e.address);
    old.delete(e.address);
    if (!was) add(`endpoint ${e.address} is there`, e.state, ofEndpoint[e.state ?? "Healthy"]);
    else if (was.state !== e.state) {
      add(`endpoint ${e.address}: ${was.state} → ${e.state}`, e.state === "Healthy" ? "" : e.lastError?.message, ofEndpoint[e.state ?? "Healthy"]);
    }
  }
  for (const address of old.keys()) add(`endpoint ${address} is gone`);
}

function renewed(a: Certificate | undefined, b: Certificate | undefined): boolean {
  return !!a && !!b && (a.keyID !== b.keyID || a.notAfter !== b.notAfter);
}
