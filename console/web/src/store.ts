import { atStart, changesBetween, type Change } from "./changes";
import { clock } from "./clock";
import type { Receiver, Source } from "./feed";
import { byGravity } from "./order";
import type { PastChange } from "./past";
import { every, Samples } from "./samples";
import type { Service } from "./types";

/** Line is a change with its time and a number of its own. */
export interface Line extends Change { id: number; at: number; atStart?: boolean }

/** Connection says whether what is shown is current. */
export interface Connection { state: "connecting" | "live" | "lost"; why: string; since: number }

/** keptLines bounds the timeline, shownBefore what it begins with. */
const keptLines = 200;
const shownBefore = 20;
/** renderAtMost is how often a burst of events is shown. */
const renderAtMost = 200;

/** Store is what the page knows. It tells its listener of changes, a burst once. */
export class Store implements Receiver {
  readonly services = new Map<string, Service>();
  readonly samples = new Samples();
  connection: Connection = { state: "connecting", why: "", since: Date.now() };
  source: Source = { plain: false, why: "" };
  lines: Line[] = [];
  /** spoken is what a screen reader is told. */
  spoken = "";

  private wasListed = false;
  private nextID = 1;
  private waiting = 0;
  private unspoken: Line[] = [];
  private gravest: Service[] | null = null;

  constructor(private readonly show: () => void) {
    setInterval(() => {
      if (this.connection.state === "live") this.samples.take(this.services.values(), Date.now());
      this.speak();
      this.show();
    }, every);
  }

  /** byGravity is all APIServices, gravest first. */
  byGravity(): Service[] {
    return (this.gravest ??= [...this.services.values()].sort(byGravity));
  }

  listed(all: Service[], source: Source) {
    const gone = new Set(this.services.keys());
    const first = !this.wasListed || source.plain !== this.source.plain;
    if (first) this.services.clear();
    for (const s of all) {
      gone.delete(s.metadata.name);
      if (!first) this.note(changesBetween(this.services.get(s.metadata.name), s));
      this.services.set(s.metadata.name, s);
    }
    if (!first) for (const name of gone) this.remove(name);
    this.wasListed = true;
    this.source = source;
    this.connection = { state: "live", why: "", since: Date.now() };
    this.gravest = null;
    if (first) {
      this.lines = this.byGravity().slice(0, shownBefore).flatMap((s) => {
        const change = atStart(s);
        return change ? [{ ...change, id: this.nextID++, atStart: true, at: Date.parse(s.status.since ?? "") || clock.now() }] : [];
      }).sort((a, b) => b.at - a.at);
    }
    this.samples.take(this.services.values(), Date.now());
    this.schedule();
  }

  happened(before: PastChange[]) {
    // That something has been so is told where nothing tells when it began.
    const told = new Set(before.map((b) => `${b.name} ${b.state}`));
    const lines = this.lines.filter((l) => !l.atStart || !told.has(`${l.name} ${l.state}`));
    this.lines = [...lines, ...before.map((b) => ({ ...b, id: this.nextID++ }))].sort((a, b) => b.at - a.at).slice(0, keptLines);
    this.schedule();
  }

  changed(name: string, now: Service | undefined) {
    this.note(changesBetween(this.services.get(name), now));
    if (now) this.services.set(name, now);
    else this.services.delete(name);
    this.gravest = null;
    this.schedule();
  }

  lost(why: string) {
    const { state, since } = this.connection;
    this.connection = { state: "lost", why, since: state === "lost" ? since : Date.now() };
    this.schedule();
  }

  private remove(name: string) {
    this.note(changesBetween(this.services.get(name), undefined));
    this.services.delete(name);
  }

  private note(changes: Change[]) {
    if (changes.length === 0) return;
    const lines = changes.map((c) => ({ ...c, id: this.nextID++, at: clock.now() }));
    this.lines = [...lines, ...this.lines].slice(0, keptLines);
    this.unspoken.push(...lines);
  }

  /** speak tells a screen reader of what came since the last time: one sentence, however much it was. */
  private speak() {
    const [first, ...more] = this.unspoken;
    if (!first) return;
    this.spoken = `${first.name}: ${first.what}` + (more.length > 0 ? `, and ${more.length} more` : "");
    this.unspoken = [];
  }

  private schedule() {
    if (this.waiting) return;
    this.waiting = setTimeout(() => {
      this.waiting = 0;
      this.show();
    }, renderAtMost);
  }
}
