import type { APIService, Service, About, Verdict } from "./types";
import { clock } from "./clock";
import { past, type PastChange } from "./past";
import { fromAPIService } from "./plain";
import { clean } from "./text";
import { tokenHeader } from "./token";

// All addresses are relative to the page, so that it works behind whatever serves it below a path.
const services = "../apis/aggregation.annex.dev/v1alpha1/remoteapiservices";
const apiServices = "../apis/apiregistration.k8s.io/v1/apiservices";
// Events on what has no namespace are in this one.
const events = "../api/v1/namespaces/default/events?fieldSelector=involvedObject.kind%3DAPIService&limit=500";

/** longestLine bounds one event of a watch, in characters. */
const longestLine = 8 << 20;
/** watchSeconds is how long a watch is asked to last; silence beyond it means a dead connection. */
const watchSeconds = 240;
const firstPause = 1000;
const longestPause = 15000;

/** Source is where objects come from: Annex's own resource, or the APIServices of a kube-apiserver. */
export interface Source { plain: boolean; why: string }

/** Receiver is told what is seen. */
export interface Receiver {
  /** listed gives all objects. */
  listed(all: Service[], source: Source): void;
  /** changed gives one object that was added or changed, or the name of one that is gone. */
  changed(name: string, now: Service | undefined): void;
  /** happened gives what was noted before the first list, newest first. */
  happened(before: PastChange[]): void;
  /** lost says that nothing is heard any more, and why. */
  lost(why: string): void;
}

/** Refusal is an answer other than 200. */
class Refusal extends Error {
  constructor(readonly code: number, message: string) { super(message); }
}

let token = "";

/** identify sets the token that goes with every request. */
export function identify(known: string) {
  token = known;
}

/** get asks for a JSON document. */
async function get(path: string, signal?: AbortSignal): Promise<any> {
  const response = await request(path, signal ?? AbortSignal.timeout(60_000));
  return response.json();
}

async function request(path: string, signal: AbortSignal): Promise<Response> {
  const headers = { Accept: "application/json", ...(token !== "" && { [tokenHeader]: token }) };
  const response = await fetch(path, { headers, signal, cache: "no-store", redirect: "error" });
  if (!response.ok) {
    let message = `${response.status} ${response.statusText}`.trim();
    try {
      const said = (await response.json())?.message;
      if (typeof said === "string" && said !== "") message = said;
    } catch { /* it said nothing that can be read */ }
    throw new Refusal(response.status, clean(message));
  }
  // Others are answered by whoever serves the page, whose clock may be another.
  if (path.startsWith("../api")) clock.heard(response.headers.get("Date"));
  return response;
}

/** follow lists and watches for ever, and begins anew after each failure. */
export async function follow(to: Receiver): Promise<never> {
  for (let pause = firstPause, asked = false; ;) {
    try {
      const { path, version, source, read } = await list(to);
      pause = firstPause;
      if (!asked && !source.plain) { // another kind of API server notes none
        asked = true;
        void noted().then((before) => to.happened(before));
      }
      await watch(path, version, read, to, source);
    } catch (err) {
      to.lost(describe(err));
      // Many pages that lost one server do not come back at one moment.
      await sleep(pause * (0.75 + Math.random() / 2));
      pause = Math.min(pause * 2, longestPause);
    }
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}

type Read = (object: any) => Service | null;

async function list(to: Receiver) {
  const own: Read = (o) => (o?.metadata?.name ? { metadata: o.metadata, status: o.status ?? {} } : null);
  let path = services;
  let source: Source = { plain: false, why: "" };
  let read = own;
  let answer: any;
  try {
    answer = await get(services);
  } catch (err) {
    if (!(err instanceof Refusal) || (err.code !== 404 && err.code !== 403)) throw err;
    path = apiServices;
    read = (o) => (o?.metadata?.name ? fromAPIService(o as APIService) : null);
    source = {
      plain: true,
      why: err.code === 404
        ? "This API server does not serve aggregation.annex.dev, so that only the conditions of APIServices are known."
        : "You may not list remoteapiservices.aggregation.annex.dev, so that only the conditions of APIServices are shown.",
    };
    answer = await get(apiServices);
  }
  const items: unknown[] = Array.isArray(answer?.items) ? answer.items : [];
  to.listed(items.map((o) => read(clean(o))).filter((s) => s !== null), source);
  return { path, version: String(answer?.metadata?.resourceVersion ?? ""), source, read };
}

/** noted is what Events tell; nothing where they may not be read, or are not there. */
async function noted(): Promise<PastChange[]> {
  try {
    const items = (await get(events))?.items;
    return Array.isArray(items) ? past(clean(items)) : [];
  } catch {
    return [];
  }
}

/** watch returns when a watch has ended as it should, and the next list may come at once. */
async function watch(path: string, version: string, read: Read, to: Receiver, source: Source): Promise<void> {
  let at = version;
  // On a kube-apiserver without the resource, see now and then whether it has come.
  for (let rounds = 0; !source.plain || rounds < 1; rounds++) {
    const query = new URLSearchParams({ watch: "1", allowWatchBookmarks: "true", timeoutSeconds: String(watchSeconds), resourceVersion: at });
    const stop = new AbortController();
    const began = Date.now();
    let silence = 0;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(new Error("nothing was heard for too long")), (watchSeconds + 30) * 1000);
    };
    heard();
    try {
      const response = await request(`${path}?${query}`, stop.signal);
      for await (const line of lines(response, heard)) {
        const event = JSON.parse(line);
        if (event.type === "ERROR") {
          if (event.object?.code === 410) return; // too old: list again
          throw new Error(clean(String(event.object?.message ?? "the watch failed")));
        }
        at = String(event.object?.metadata?.resourceVersion ?? at);
        if (event.type === "BOOKMARK") continue;
        const object = clean(event.object);
        const name = object?.metadata?.name;
        if (typeof name === "string") to.changed(name, event.type === "DELETED" ? undefined : (read(object) ?? undefined));
      }
    } catch (err) {
      if (err instanceof Refusal && err.code === 410) return;
      throw err;
    } finally {
      clearTimeout(silence);
      stop.abort();
    }
    // Something on the way may end every watch at once.
    if (Date.now() - began < firstPause) await sleep(firstPause);
  }
}

/** lines gives what is between line ends. */
async function* lines(response: Response, heard: () => void): AsyncGenerator<string> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const parts = (rest + value).split("\n");
    rest = parts.pop()!;
    if (rest.length > longestLine) throw new Error("an event of the watch is too large");
    for (const part of parts) if (part.trim() !== "") yield part;
  }
}

export async function about(): Promise<About> {
  try {
    return clean(await get("api/about"));
  } catch {
    return {};
  }
}

/** diagnose asks doctor, and throws why that cannot be. */
export async function diagnose(name: string, signal: AbortSignal): Promise<Verdict> {
  return clean(await get(`api/doctor?name=${encodeURIComponent(name)}`, signal));
}

/** describe is one sentence. */
export function describe(err: unknown): string {
  if (err instanceof Refusal) return err.message;
  if (err instanceof TypeError) return "the server cannot be reached";
  if (err instanceof DOMException && err.name === "TimeoutError") return "the server did not answer in time";
  return clean(err instanceof Error ? err.message : String(err));
}
