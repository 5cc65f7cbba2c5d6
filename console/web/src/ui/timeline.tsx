import { useState } from "preact/hooks";
import { clock } from "../clock";
import type { Line } from "../store";
import type { Service } from "../types";
import { Glyph } from "./glyph";

const few = 25;

interface Props { lines: Line[]; services: Map<string, Service>; onOpen: (name: string) => void }

/** Timeline is what changed, newest first. */
export function Timeline({ lines, services, onOpen }: Props) {
  const [all, setAll] = useState(false);
  const shown = all ? lines : lines.slice(0, few);
  return (
    <section class="timeline" aria-labelledby="timeline-title">
      <h2 id="timeline-title">Last changes</h2>
      {lines.length === 0 && <p class="sum">Nothing has changed since this page was opened.</p>}
      <ol>
        {shown.map((l) => (
          <li key={l.id}>
            <time dateTime={new Date(l.at).toISOString()}>{timeOfDay(l.at)}</time>
            <Glyph state={l.state} />
            <span class="event">
              {services.has(l.name)
                ? <button type="button" class="link" onClick={() => onOpen(l.name)}>{l.name}</button>
                : <b>{l.name}</b>}{" "}
              {l.what}
              {l.why && <span class="why">{l.why}</span>}
            </span>
          </li>
        ))}
      </ol>
      {lines.length > few && (
        <button type="button" class="more" onClick={() => setAll(!all)}>{all ? "Show fewer" : `Show all ${lines.length}`}</button>
      )}
    </section>
  );
}

function timeOfDay(at: number): string {
  const day = new Date(at);
  const time = day.toLocaleTimeString(undefined, { hour12: false });
  return day.toDateString() === new Date(clock.now()).toDateString() ? time : `${day.toLocaleDateString()} ${time}`;
}
