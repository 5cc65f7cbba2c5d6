import { useRef, useState } from "preact/hooks";
import { count } from "../format";
import { seenBy, serversOf, stateOf } from "../order";
import type { Store } from "../store";
import type { Service } from "../types";
import { EndpointGlyph, Glyph } from "./glyph";

/** page is how many APIServices are shown until more are asked for. */
const page = 50;
/** rowHeight and linkWidth are those of style.css, in pixels. */
const rowHeight = 58;
const linkWidth = 56;
/** mostGlyphs is how many endpoints a row shows one by one. */
const mostGlyphs = 10;

interface Props { store: Store; shown: Service[]; chosen: string; onOpen: (name: string) => void }

/** ServiceMap leads from API servers over APIServices to endpoints, gravest first. */
export function ServiceMap({ store, shown, chosen, onOpen }: Props) {
  const [limit, setLimit] = useState(page);
  const [current, setCurrent] = useState("");
  const list = useRef<HTMLUListElement>(null);
  const rows = shown.slice(0, limit);
  const servers = serversOf(store.services.values());
  const reachable = rows.some((s) => s.metadata.name === current) ? current : rows[0]?.metadata.name;

  // One row is in the order of the Tab key; arrows lead to the others.
  const onKeyDown = (e: KeyboardEvent) => {
    const at = rows.findIndex((s) => s.metadata.name === reachable);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, PageDown: at + 10, PageUp: at - 10 }[e.key];
    if (to === undefined || rows.length === 0) return;
    e.preventDefault();
    const row = Math.max(0, Math.min(rows.length - 1, to));
    setCurrent(rows[row]!.metadata.name);
    list.current?.querySelectorAll<HTMLElement>("button.service")[row]?.focus();
  };

  return (
    <section aria-labelledby="map-title" class="map">
      <h2 id="map-title">API servers, APIServices, endpoints</h2>
      <p class="sum">
        {store.services.size === 0 && store.connection.state === "live" && "No APIService leads to an extension server."}
        {store.services.size === 0 && store.connection.state === "connecting" && "Asking the API server…"}
        {store.services.size > 0 && shown.length === 0 && "No APIService is as the filter asks."}
        {shown.length > 0 && `${rows.length} of ${count(store.services.size, "APIService", "APIServices")}, gravest first.`}
        {shown.length > 0 && <span class="keys"> Arrow keys move, Enter opens.</span>}
      </p>
      <div class="network">
        <Servers servers={servers} store={store} />
        <Links servers={servers} rows={rows} />
        <ul id="services" class="services" ref={list} tabIndex={-1} aria-label="APIServices, gravest first" onKeyDown={onKeyDown}>
          {rows.map((s) => (
            <Row
              key={s.metadata.name} service={s} plain={store.source.plain} open={s.metadata.name === chosen} reachable={s.metadata.name === reachable}
              onFocus={() => setCurrent(s.metadata.name)} onOpen={() => onOpen(s.metadata.name)}
            />
          ))}
        </ul>
      </div>
      {shown.length > rows.length && (
        <button type="button" class="more" onClick={() => setLimit(limit + 2 * page)}>
          Show {Math.min(2 * page, shown.length - rows.length)} more of {shown.length - rows.length}
        </button>
      )}
    </section>
  );
}

function Servers({ servers, store }: { servers: string[]; store: Store }) {
  if (servers.length === 0) return <div class="servers">{store.source.plain && <div class="server">kube-apiserver</div>}</div>;
  const all = [...store.services.values()];
  return (
    <ul class="servers" aria-label="API servers">
      {servers.map((server) => {
        const down = all.filter((s) => seenBy(s, server) === "Unavailable").length;
        return (
          <li class="server" key={server}>
            <span class="label">{server}</span>
            <span class="sees"><Glyph state={down > 0 ? "Unavailable" : "Healthy"} /> {down > 0 ? `${down} unavailable` : "sees all"}</span>
          </li>
        );
      })}
    </ul>
  );
}

/** Links are for the eye alone: rows and details say in words what each API server sees. */
function Links({ servers, rows }: { servers: string[]; rows: Service[] }) {
  const height = Math.max(rows.length, servers.length, 1) * rowHeight;
  const from = servers.length > 0 ? servers : [""];
  return (
    <svg class="links" width={linkWidth} height={height} viewBox={`0 0 ${linkWidth} ${height}`} aria-hidden="true">
      {rows.flatMap((s, row) => from.map((server, i) => {
        const y1 = (i + 0.5) * rowHeight, y2 = (row + 0.5) * rowHeight, middle = linkWidth / 2;
        return <path key={`${server} ${s.metadata.name}`} class={`is-${seenBy(s, server)}`} d={`M0 ${y1}C${middle} ${y1} ${middle} ${y2} ${linkWidth} ${y2}`} />;
      })).reverse()}
    </svg>
  );
}

interface RowProps { service: Service; plain: boolean; open: boolean; reachable: boolean; onFocus: () => void; onOpen: () => void }

function Row({ service, plain, open, reachable, onFocus, onOpen }: RowProps) {
  const { metadata: { name }, status } = service;
  const state = stateOf(service);
  const endpoints = status.endpoints ?? [];
  const others = (status.views ?? []).slice(1).map((v) => v.server).filter(Boolean);
  const why = [status.reason, others.length > 0 && `otherwise seen by ${others.join(", ")}`].filter(Boolean).join("; ");
  return (
    <li class="row">
      <button
        type="button" class="service" data-name={name} tabIndex={reachable ? 0 : -1} aria-current={open ? "true" : undefined}
        onFocus={onFocus} onClick={onOpen}
      >
        <Glyph state={state} />
        <span class="what">
          <span class="name">{name}</span>
          <span class="why"><span class={`word is-${state}`}>{state}</span>{why && ` ${why}`}</span>
        </span>
        {!plain && (
          <span class="numbers">
            <span>p99 {status.latency?.p99 ?? "–"}</span>
            <span>errors {status.errorRate || "–"}</span>
          </span>
        )}
        {!plain && (
          <span class="endpoints">
            <span class="visually-hidden">, endpoints: </span>
            {endpoints.slice(0, mostGlyphs).map((e) => <EndpointGlyph key={e.address} state={e.state} />)}
            <span>{status.endpointSummary}</span>
          </span>
        )}
      </button>
    </li>
  );
}
