import type { Action } from "./types";

/** Group is what may be run together. */
export interface Group { does: "looks" | "changes" | "destroys"; title: string; lines: string[] }

/** grouped keeps what looks from what changes, and each command that destroys by itself, below its warning. */
export function grouped(actions: Action[]): Group[] {
  const groups: Group[] = [];
  for (const a of actions) {
    // What is done by hand changes something.
    const does = a.does === "looks" || a.does === "destroys" ? a.does : "changes";
    const last = groups.at(-1);
    const lines = [...(a.remark ? ["# " + a.remark] : []), ...(a.command ? [a.command] : [])];
    if (last?.does === does && does !== "destroys") last.lines.push(...lines);
    else groups.push({ does, title: title(does, a, last), lines });
  }
  if (groups.length === 1 && groups[0]!.does === "looks") groups[0]!.title = "Look; this changes nothing:";
  return groups;
}

function title(does: Group["does"], a: Action, last: Group | undefined): string {
  switch (does) {
    case "looks": return "Look first; this changes nothing:";
    case "destroys": return a.warning || "This takes something away.";
    default: return last ? "Then mend:" : "Mend:";
  }
}
