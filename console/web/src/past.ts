import type { Change } from "./changes";
import { moment } from "./format";
import type { State } from "./types";

/** Noted is an Event on an APIService. */
export interface Noted {
  involvedObject?: { kind?: string; name?: string };
  source?: { component?: string };
  reason?: string;
  message?: string;
  count?: number;
  lastTimestamp?: string | null;
}

/** PastChange is one that was noted before the page was opened. */
export interface PastChange extends Change { at: number }

/** writer is what Annex calls itself in Events. */
const writer = "annex-aggregation";
/** sentences are those that its Events begin with; the longest comes first. */
const sentences: [string, State][] = [
  ["APIService is available, and something is wrong", "Degraded"],
  ["APIService is unavailable", "Unavailable"],
  ["APIService is available", "Healthy"],
];

/** past tells what Events say of changes of state, newest first. */
export function past(events: Noted[]): PastChange[] {
  return events.flatMap((e) => {
    const at = moment(e.lastTimestamp);
    const name = e.involvedObject?.name;
    const [sentence, state] = sentences.find(([s]) => e.message?.startsWith(s)) ?? [];
    if (at === null || !name || !sentence || !state || e.involvedObject?.kind !== "APIService" || e.source?.component !== writer) return [];
    const why = [e.reason, e.message!.slice(sentence.length).replace(/^: /, "")].filter(Boolean).join(": ");
    const often = (e.count ?? 1) > 1 ? `, for the ${ordinal(e.count!)} time` : "";
    return [{ name, what: `became ${state}${often}`, why: state === "Healthy" ? "" : why, state, at }];
  }).sort((a, b) => b.at - a.at);
}

function ordinal(n: number): string {
  const ending = n % 100 > 10 && n % 100 < 14 ? "th" : ["th", "st", "nd", "rd"][n % 10] ?? "th";
  return `${n}${ending}`;
}
