import type { Service, State } from "./types";

/** states, gravest first. */
export const states: State[] = ["Unavailable", "Degraded", "Unknown", "Healthy"];

const rank = new Map<string, number>(states.map((s, i) => [s, i]));

/** stateOf is the state of an APIService; a word that is not known is Unknown. */
export function stateOf(s: Service): State {
  return s.status.state !== undefined && rank.has(s.status.state) ? s.status.state : "Unknown";
}

/** byGravity puts the gravest first, those that are alike by name. */
export function byGravity(a: Service, b: Service): number {
  return rank.get(stateOf(a))! - rank.get(stateOf(b))! || (a.metadata.name < b.metadata.name ? -1 : 1);
}

/** Filter is what is asked for: states, none meaning all, and words that all occur. */
export interface Filter { states: State[]; words: string }

/** matches says whether an APIService is asked for. */
export function matches(s: Service, f: Filter): boolean {
  if (f.states.length > 0 && !f.states.includes(stateOf(s))) return false;
  if (f.words.trim() === "") return true;
  const { status } = s;
  const text = [s.metadata.name, status.service, stateOf(s), status.reason, ...(status.faults ?? []).flatMap((x) => [x.code, x.reason])]
    .join(" ").toLowerCase();
  return f.words.toLowerCase().split(/\s+/).every((w) => text.includes(w));
}

/** countByState counts. */
export function countByState(all: Iterable<Service>): Record<State, number> {
  const n: Record<State, number> = { Unavailable: 0, Degraded: 0, Unknown: 0, Healthy: 0 };
  for (const s of all) n[stateOf(s)]++;
  return n;
}

/** serversOf are the API servers that are spoken of, those that answer first. */
export function serversOf(all: Iterable<Service>): string[] {
  const own = new Set<string>();
  const others = new Set<string>();
  for (const { status } of all) {
    if (status.server) own.add(status.server);
    for (const v of status.views ?? []) if (v.server) others.add(v.server);
  }
  return [...own, ...[...others].filter((o) => !own.has(o)).sort()].slice(0, 12);
}

/** seenBy is what an API server makes of an APIService. Who says nothing else sees what the
 * server that answers sees. */
export function seenBy(s: Service, server: string): State {
  const view = s.status.views?.find((v) => v.server === server);
  if (!view || server === s.status.server) return stateOf(s);
  return view.available === "True" ? "Healthy" : view.available === "False" ? "Unavailable" : "Unknown";
}
