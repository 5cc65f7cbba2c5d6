import { clock } from "../clock";
import { ago, count, days, latency } from "../format";
import type { Store } from "../store";
import type { Document, Service } from "../types";
import { Plot } from "./plot";

const few = 5;
/** soon is how few days of a certificate are worth a line here. */
const soon = 60;

interface Props { store: Store; missing: string; onOpen: (name: string) => void }

/** Overview is all APIServices at a glance. */
export function Overview({ store, missing, onOpen }: Props) {
  const all = store.byGravity();
  const { at, p99, errors, inFlight } = store.samples.of();
  return (
    <>
      {missing !== "" && store.connection.state === "live" && <p class="notice">There is no APIService {missing} that leads to an extension server.</p>}
      <h2>All APIServices</h2>
      {store.source.plain
        ? <p>Latencies, endpoints, documents and certificates are known where Annex runs. <code>annex doctor</code> finds out more on any cluster.</p>
        : (
          <>
            <Plot title="Slowest p99" at={at} lines={[{ label: "", values: p99, tone: "first" }]} format={latency} note={store.samples.slowest} />
            <Plot title="Highest error rate" at={at} lines={[{ label: "", values: errors, tone: "first" }]} format={rate} note={store.samples.worst} />
            <Plot title="Requests in flight" at={at} lines={[{ label: "", values: inFlight, tone: "first" }]} format={whole} />
            {/* Of nothing, nothing is said to be well. */}
            {all.length > 0 && <Certificates all={all} onOpen={onOpen} />}
            {all.length > 0 && <Documents all={all} onOpen={onOpen} />}
          </>
        )}
    </>
  );
}

export function rate(v: number | null): string {
  return v === null ? "none" : `${v < 10 ? Math.round(v * 10) / 10 : Math.round(v)} %`;
}

function whole(v: number | null): string {
  return v === null ? "none" : String(Math.round(v * 10) / 10);
}

type Opens = { all: Service[]; onOpen: (name: string) => void };

function Certificates({ all, onOpen }: Opens) {
  const ending = all
    .flatMap((s) => (s.status.certificates?.serving ? [{ s, left: s.status.certificates.serving.daysLeft ?? Infinity }] : []))
    .filter((c) => c.left < soon)
    .sort((a, b) => a.left - b.left);
  const frontProxy = all.find((s) => s.status.certificates?.frontProxy)?.status.certificates?.frontProxy;
  return (
    <>
      <h3>Certificates</h3>
      <ul class="short">
        {ending.slice(0, few).map(({ s, left }) => (
          <li key={s.metadata.name}>
            <button type="button" class="link" onClick={() => onOpen(s.metadata.name)}>{s.metadata.name}</button> {days(left)}
          </li>
        ))}
        {ending.length > few && <li>and {ending.length - few} more within {soon} days</li>}
        {ending.length === 0 && <li>No serving certificate ends within {soon} days.</li>}
        {frontProxy && <li>front proxy: {days(frontProxy.daysLeft)}</li>}
      </ul>
    </>
  );
}

function Documents({ all, onOpen }: Opens) {
  const stale = all.flatMap((s) => {
    const documents: [string, Document | undefined][] = [["discovery", s.status.discovery], ["OpenAPI v2", s.status.openAPIV2], ["OpenAPI v3", s.status.openAPIV3]];
    return documents.filter(([, d]) => d?.freshness === "Stale").map(([title, d]) => ({ name: s.metadata.name, title, fetched: d?.fetched }));
  });
  return (
    <>
      <h3>Documents</h3>
      <ul class="short">
        {stale.slice(0, few).map(({ name, title, fetched }) => (
          <li key={`${name} ${title}`}>
            <button type="button" class="link" onClick={() => onOpen(name)}>{name}</button> {title} is stale, from {ago(fetched, clock.now()) || "some time"} ago
          </li>
        ))}
        {stale.length > few && <li>and {count(stale.length - few, "document", "documents")} more</li>}
        {stale.length === 0 && <li>None is stale.</li>}
      </ul>
    </>
  );
}
