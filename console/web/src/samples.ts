import { milliseconds, percent } from "./format";
import type { Service } from "./types";

/** Series are points of one APIService, or of all: seconds, and what was seen then. */
export interface Series { at: number[]; p50: (number | null)[]; p99: (number | null)[]; errors: (number | null)[]; inFlight: (number | null)[] }

/** kept is how many points are: ten minutes of them. */
export const kept = 300;
/** every is how far apart points are, in milliseconds. */
export const every = 2000;

const fields = 4;

/** Samples keep the last points of each APIService in rings of one size. */
export class Samples {
  private readonly at = new Float64Array(kept);
  private taken = 0;
  private readonly rings = new Map<string, Float32Array>();
  private readonly all = new Float32Array(kept * fields).fill(NaN);
  /** slowest and worst are the APIServices with the highest p99 and error rate now. */
  slowest = "";
  worst = "";

  /** take adds one point for each APIService, and for all. */
  take(services: Iterable<Service>, now: number) {
    const slot = this.taken++ % kept;
    this.at[slot] = now / 1000;
    const seen = new Set<string>();
    let p99 = NaN, errors = NaN, inFlight = 0;
    this.slowest = this.worst = "";
    for (const { metadata: { name }, status } of services) {
      seen.add(name);
      const point = [
        milliseconds(status.latency?.p50) ?? NaN, milliseconds(status.latency?.p99) ?? NaN,
        percent(status.errorRate) ?? NaN, status.limits?.inFlight ?? NaN,
      ] as const;
      let ring = this.rings.get(name);
      if (!ring) this.rings.set(name, (ring = new Float32Array(kept * fields).fill(NaN)));
      ring.set(point, slot * fields);
      // A comparison with NaN is false, so that the first number is taken.
      if (!Number.isNaN(point[1]) && !(point[1] <= p99)) [p99, this.slowest] = [point[1], name];
      if (!Number.isNaN(point[2]) && !(point[2] <= errors)) [errors, this.worst] = [point[2], name];
      inFlight += point[3] || 0;
    }
    this.all.set([NaN, p99, errors, inFlight], slot * fields);
    for (const [name, ring] of this.rings) {
      if (seen.has(name)) continue;
      ring.fill(NaN, slot * fields, (slot + 1) * fields);
      if (ring.every(Number.isNaN)) this.rings.delete(name);
    }
  }

  /** of is the series of one APIService, or of all where no name is given: the highest p99 and
   * error rate, and the sum of what is in flight. */
  of(name?: string): Series {
    const series: Series = { at: [], p50: [], p99: [], errors: [], inFlight: [] };
    const ring = name === undefined ? this.all : this.rings.get(name);
    const n = Math.min(this.taken, kept);
    for (let i = this.taken - n; i < this.taken; i++) {
      const slot = i % kept;
      const value = (field: number) => {
        const v = ring ? ring[slot * fields + field]! : NaN;
        return Number.isNaN(v) ? null : v;
      };
      series.at.push(this.at[slot]!);
      series.p50.push(value(0));
      series.p99.push(value(1));
      series.errors.push(value(2));
      series.inFlight.push(value(3));
    }
    return series;
  }
}
