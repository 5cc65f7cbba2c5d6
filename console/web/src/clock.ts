import { span } from "./format";

/** ignored is a difference between clocks that the way of an answer explains, notable one that the reader should know of. */
const ignored = 30_000;
const notable = 5 * 60_000;

/** Clock tells the API server's time, so that ages are right where this machine's clock is not. */
export class Clock {
  private behind = 0;

  /** heard learns the time from the Date of an answer of the API server. */
  heard(date: string | null, local = Date.now()) {
    const told = Date.parse(date ?? "");
    if (!Number.isFinite(told)) return;
    const behind = told - local;
    this.behind = Math.abs(behind) < ignored ? 0 : behind;
  }

  now(local = Date.now()): number {
    return local + this.behind;
  }

  /** note says how far the clocks are apart, if that is much. */
  note(): string {
    if (Math.abs(this.behind) < notable) return "";
    const word = this.behind < 0 ? "ahead of" : "behind";
    return `This machine's clock is ${span(Math.round(Math.abs(this.behind) / 60_000) * 60_000)} ${word} the API server's; times are told by the API server's.`;
  }
}

/** clock is that of the API server which the page reads. */
export const clock = new Clock();
