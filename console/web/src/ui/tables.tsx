import { ago, bytes, count, days } from "../format";
import { Fragment, type ComponentChildren } from "preact";
import type { Certificate, Document, Endpoint, Status } from "../types";
import { EndpointGlyph, Glyph } from "./glyph";

/** most is how many rows a table shows. */
const most = 100;
/** soon is how few days of a certificate are worth a warning. */
const soon = 14;

/** Wide lets a table scroll by itself where the page is narrow, with the keyboard too. */
function Wide({ label, children }: { label: string; children: ComponentChildren }) {
  return <div class="wide" role="region" aria-label={label} tabIndex={0}>{children}</div>;
}

/** Problem is a row of its own below the one that it is about: in a cell of that it would be a word wide. */
function Problem({ columns, children }: { columns: number; children: ComponentChildren }) {
  return <tr class="problem"><td colSpan={columns}><div>{children}</div></td></tr>;
}

export function EndpointTable({ endpoints, now }: { endpoints: Endpoint[]; now: number }) {
  if (endpoints.length === 0) return <p>There is none.</p>;
  return (
    <>
      <Wide label="Endpoints">
        <table>
          <thead><tr><th scope="col">Address</th><th scope="col">State</th><th scope="col">p50</th><th scope="col">p99</th><th scope="col">Errors</th><th scope="col">Per min</th><th scope="col">In flight</th><th scope="col">Where</th></tr></thead>
          <tbody>
            {endpoints.slice(0, most).map((e) => (
              <Fragment key={e.address}>
                <tr class={e.lastError?.message ? "has-problem" : undefined}>
                  <th scope="row">{e.address}{e.kind === "clusterIP" && <span class="quiet"> cluster IP</span>}</th>
                  <td class="brief"><EndpointGlyph state={e.state} /> {e.state} <span class="quiet">{ago(e.since, now)}</span></td>
                  <td>{e.latency?.p50 ?? "–"}</td><td>{e.latency?.p99 ?? "–"}</td><td>{e.errorRate || "–"}</td><td>{e.requests ?? 0}</td><td>{e.inFlight ?? 0}</td>
                  <td>{[e.pod, e.node, e.zone].filter(Boolean).join(", ")}</td>
                </tr>
                {e.lastError?.message && <Problem columns={8}><span class="quiet">last error, {ago(e.lastError.time, now) || "some time"} ago:</span> {e.lastError.message}</Problem>}
              </Fragment>
            ))}
          </tbody>
        </table>
      </Wide>
      {endpoints.length > most && <p class="quiet">and {endpoints.length - most} more</p>}
    </>
  );
}

export function DocumentTable({ status, now }: { status: Status; now: number }) {
  const rows: [string, Document | undefined, string][] = [
    ["Discovery", status.discovery, count(status.discovery?.resources ?? 0, "resource", "resources")],
    ["OpenAPI v2", status.openAPIV2, ""],
    ["OpenAPI v3", status.openAPIV3, ""],
  ];
  return (
    <Wide label="Discovery and OpenAPI">
      <table>
        <thead><tr><th scope="col">Document</th><th scope="col">Freshness</th><th scope="col">Age</th><th scope="col">Size</th></tr></thead>
        <tbody>
          {rows.map(([title, d, more]) => {
            const problems = [d?.problem, title === "Discovery" && status.discovery?.warning].filter(Boolean);
            return (
              <Fragment key={title}>
                <tr class={problems.length > 0 ? "has-problem" : undefined}>
                  <th scope="row">{title}</th>
                  <td class="brief">
                    <Glyph state={d?.freshness === "Current" ? "Healthy" : d?.freshness === "Stale" ? "Degraded" : "Unknown"} /> {d?.freshness ?? "Unknown"}
                  </td>
                  {/* A watch does not tell that a document was found unchanged. */}
                  <td>{(d?.freshness !== "Current" && ago(d?.fetched, now)) || "–"}</td>
                  <td>{[bytes(d?.bytes), more].filter(Boolean).join(", ") || "–"}</td>
                </tr>
                {problems.map((p) => <Problem key={p} columns={4}>{p}</Problem>)}
              </Fragment>
            );
          })}
        </tbody>
      </table>
    </Wide>
  );
}

export function CertificateTable({ certificates }: { certificates: Status["certificates"] }) {
  const rows: [string, Certificate][] = [];
  if (certificates?.serving) rows.push(["serving", certificates.serving]);
  for (const c of (certificates?.caBundle ?? []).slice(0, most)) rows.push(["CA bundle", c]);
  if (certificates?.frontProxy) rows.push(["front proxy", certificates.frontProxy]);
  if (rows.length === 0) return <p>None has been seen.</p>;
  return (
    <Wide label="Certificates">
      <table>
        <thead><tr><th scope="col">Certificate</th><th scope="col">Left</th><th scope="col">Subject</th><th scope="col">Issuer</th></tr></thead>
        <tbody>
          {rows.map(([title, c], i) => {
            const left = c.daysLeft ?? Infinity;
            return (
              <tr key={i}>
                <th scope="row">{title}</th>
                <td class="brief"><Glyph state={left < 0 ? "Unavailable" : left < soon ? "Degraded" : "Healthy"} /> {days(c.daysLeft)} <span class="quiet">{c.notAfter?.slice(0, 10)}</span></td>
                <td>{c.subject}{(c.names?.length ?? 0) > 0 && <div class="quiet">{c.names!.join(", ")}</div>}</td>
                <td>{c.issuer}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </Wide>
  );
}
