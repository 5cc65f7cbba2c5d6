import { useLayoutEffect, useRef } from "preact/hooks";
import { clock } from "../clock";
import { ago, latency } from "../format";
import { stateOf } from "../order";
import type { Store } from "../store";
import type { Service, Status } from "../types";
import { Doctor } from "./doctor";
import { Badge } from "./glyph";
import { rate } from "./overview";
import { Plot } from "./plot";
import { CertificateTable, DocumentTable, EndpointTable } from "./tables";

interface Props { store: Store; service: Service; doctor: boolean; onClose: () => void }

/** Details is all that is known of one APIService. */
export function Details({ store, service, doctor, onClose }: Props) {
  const { metadata: { name }, status } = service;
  const heading = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => heading.current?.focus(), []);
  const now = clock.now();
  const since = ago(status.since, now);
  const plain = store.source.plain;
  return (
    <article class="details" aria-labelledby="details-title" onKeyDown={(e) => { if (e.key === "Escape") onClose(); }}>
      <div class="head">
        <h2 id="details-title" tabIndex={-1} ref={heading}>{name}</h2>
        <button type="button" class="close" onClick={onClose}>Close</button>
      </div>
      <p><Badge state={stateOf(service)} /> {status.reason} {since && <span class="quiet">for {since}</span>}</p>
      {status.message && <p class="message">{status.message}</p>}
      <p class="quiet">leads to the Service {status.service}</p>
      <Faults status={status} />
      {doctor && <Doctor name={name} />}
      {plain ? <p>No more is known here: <code>annex doctor {name}</code> finds out.</p> : <Known store={store} name={name} status={status} now={now} />}
    </article>
  );
}

function Known({ store, name, status, now }: { store: Store; name: string; status: Status; now: number }) {
  const { at, p50, p99, errors } = store.samples.of(name);
  return (
    <>
      <Plot title="Latency" at={at} lines={[{ label: "p99", values: p99, tone: "first" }, { label: "p50", values: p50, tone: "second" }]} format={latency} />
      <Plot title="Error rate" at={at} lines={[{ label: "", values: errors, tone: "first" }]} format={rate} />
      <h3>Endpoints</h3>
      <EndpointTable endpoints={status.endpoints ?? []} now={now} />
      <h3>What API servers see</h3>
      <ul class="short">
        {(status.views ?? []).map((v, i) => (
          <li key={i}>{v.server}: available is {v.available}{v.reason ? `, ${v.reason}` : ""}{ago(v.since, now) && `, for ${ago(v.since, now)}`}</li>
        ))}
        {(status.views ?? []).length === 0 && <li>{status.server ? `${status.server} alone has said something.` : "None has said anything."}</li>}
      </ul>
      <h3>Limits</h3>
      <p>
        {status.limits?.inFlight ?? 0} of {status.limits?.maxInFlight ?? 0} requests in flight, {status.limits?.queued ?? 0} queued.{" "}
        Initial events of watches: {status.watchList ?? "Unknown"}.
      </p>
      <h3>Discovery and OpenAPI</h3>
      <DocumentTable status={status} now={now} />
      <h3>Certificates</h3>
      <CertificateTable certificates={status.certificates} />
      <Affected status={status} />
    </>
  );
}

function Faults({ status }: { status: Status }) {
  const faults = status.faults ?? [];
  if (faults.length === 0) return null;
  return (
    <>
      <h3>Faults</h3>
      <ul class="faults">
        {faults.map((f, i) => (
          <li key={i}>{f.code && <code>{f.code}</code>} <b>{f.reason}</b> {f.message}</li>
        ))}
      </ul>
      {faults[0]!.code && <p class="quiet"><code>annex doctor --explain {faults[0]!.code}</code> says what to do.</p>}
    </>
  );
}

function Affected({ status: { affected } }: { status: Status }) {
  if (!affected) return null;
  const lists: [string, string[] | undefined, number | undefined][] = [
    ["Namespaces stuck in deletion", affected.namespaces, affected.namespaceCount],
    ["Autoscalers without metrics", affected.autoscalers, affected.autoscalerCount],
    ["Held up", affected.controllers, affected.controllers?.length],
  ];
  return (
    <>
      <h3>Who suffers</h3>
      <ul class="short">
        {lists.filter(([, , n]) => n).map(([title, names, n]) => (
          <li key={title}>{title}: {(names ?? []).join(", ")}{n! > (names?.length ?? 0) ? ` and ${n! - (names?.length ?? 0)} more` : ""}</li>
        ))}
      </ul>
    </>
  );
}
