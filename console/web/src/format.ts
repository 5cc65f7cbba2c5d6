// Numbers and times as people read them. All are pure.

const units: Record<string, number> = { ns: 1e-6, "µs": 1e-3, "μs": 1e-3, us: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 36e5 };

/** milliseconds reads a Go duration such as "1.2s" or "1m30s"; null where it is none. */
export function milliseconds(s: string | undefined): number | null {
  if (!s) return null;
  if (s === "0" || s === "0s") return 0;
  let total = 0;
  let rest = s;
  while (rest !== "") {
    const m = /^(\d+(?:\.\d+)?)(ns|µs|μs|us|ms|s|m|h)/.exec(rest);
    if (!m) return null;
    total += Number(m[1]) * units[m[2]!]!;
    rest = rest.slice(m[0].length);
  }
  return total;
}

/** percent reads "0.5%"; null where it is none. */
export function percent(s: string | undefined): number | null {
  const m = /^(\d+(?:\.\d+)?)%$/.exec(s ?? "");
  return m ? Number(m[1]) : null;
}

/** moment reads a time; null where it is none, or the zero time. */
export function moment(s: string | undefined | null): number | null {
  const t = s ? Date.parse(s) : NaN;
  return Number.isFinite(t) && t > 0 ? t : null;
}

/** ago is how long ago a time was, as kubectl says it. A clock that is ahead makes it 0s. */
export function ago(s: string | undefined | null, now: number): string {
  const t = moment(s);
  return t === null ? "" : span(Math.max(0, now - t));
}

/** span is a length of time with its two leading units at most. */
export function span(ms: number): string {
  const s = Math.floor(ms / 1000);
  if (s < 120) return `${s}s`;
  const m = Math.floor(s / 60);
  if (m < 10) return s % 60 ? `${m}m${s % 60}s` : `${m}m`;
  if (m < 180) return `${m}m`;
  const h = Math.floor(m / 60);
  if (h < 48) return `${h}h`;
  return `${Math.floor(h / 24)}d`;
}

/** bytes is a size. */
export function bytes(n: number | undefined): string {
  if (!n) return "";
  if (n < 1024) return `${n} B`;
  if (n < 1024 * 1024) return `${(n / 1024).toFixed(n < 10240 ? 1 : 0)} KiB`;
  return `${(n / 1024 / 1024).toFixed(1)} MiB`;
}

/** days says what is left of a certificate. */
export function days(n: number | undefined): string {
  if (n === undefined) return "";
  if (n < 0) return `expired ${-n} ${-n === 1 ? "day" : "days"} ago`;
  return `${n} ${n === 1 ? "day" : "days"} left`;
}

/** latency is a number of milliseconds. */
export function latency(ms: number | null): string {
  if (ms === null) return "none";
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 10000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

/** count is a number with its noun. */
export function count(n: number, one: string, many: string): string {
  return `${n} ${n === 1 ? one : many}`;
}
