import { useEffect, useRef, useState } from "preact/hooks";
import { describe, diagnose } from "../feed";
import { grouped, type Group } from "../remedy";
import type { Finding, Verdict } from "../types";

type Asked = { state: "idle" | "asking" } | { state: "answered"; verdict: Verdict } | { state: "failed"; why: string };

/** Doctor asks for a diagnosis when told to. */
export function Doctor({ name }: { name: string }) {
  const [asked, setAsked] = useState<Asked>({ state: "idle" });
  const asking = useRef<AbortController | null>(null);
  useEffect(() => () => asking.current?.abort(), []);
  const ask = async () => {
    asking.current?.abort();
    const mine = (asking.current = new AbortController());
    setAsked({ state: "asking" });
    try {
      const verdict = await diagnose(name, mine.signal);
      if (!mine.signal.aborted) setAsked({ state: "answered", verdict });
    } catch (err) {
      if (!mine.signal.aborted) setAsked({ state: "failed", why: describe(err) });
    }
  };
  return (
    <div class="doctor">
      <button type="button" class="primary" onClick={ask} aria-disabled={asked.state === "asking"}>
        {asked.state === "idle" ? "Ask doctor" : asked.state === "asking" ? "Doctor is asking…" : "Ask again"}
      </button>
      <div role="status" aria-live="polite">
        {asked.state === "failed" && <p class="notice">Doctor could not say: {asked.why}</p>}
        {asked.state === "answered" && <Answer verdict={asked.verdict} />}
      </div>
    </div>
  );
}

function Answer({ verdict }: { verdict: Verdict }) {
  const findings = verdict.findings ?? [];
  return (
    <>
      {verdict.summary && <p>{verdict.summary}</p>}
      {findings.map((f, i) => <FindingView key={i} finding={f} />)}
      {(verdict.unseen?.length ?? 0) > 0 && (
        <>
          <h4>What could not be seen</h4>
          <ul class="short">{verdict.unseen!.map((u, i) => <li key={i}>{u}</li>)}</ul>
        </>
      )}
    </>
  );
}

function FindingView({ finding: f }: { finding: Finding }) {
  return (
    <article class={`finding is-${f.severity}`}>
      <h4>{f.code && <code>{f.code}</code>} {f.title}</h4>
      <p class="quiet">{[f.severity, f.confidence?.toLowerCase(), f.because && `follows from ${f.because}`].filter(Boolean).join(", ")}</p>
      {f.evidence && <p>{f.evidence}</p>}
      {/* What follows from another fault is mended with that. */}
      {!f.because && grouped(f.remedy ?? []).map((g, i) => <Remedy key={i} group={g} />)}
      {f.see?.startsWith("https://") && <p><a href={f.see} rel="noreferrer" target="_blank">more on {f.code}</a></p>}
    </article>
  );
}

const labels: Record<Group["does"], string> = {
  looks: "Commands that change nothing", changes: "Commands that mend", destroys: "A command that takes something away",
};

function Remedy({ group: g }: { group: Group }) {
  return (
    <div class={`remedy is-${g.does}`}>
      <p>{g.does === "destroys" && <strong>Careful. </strong>}{g.title}</p>
      <pre tabIndex={0} aria-label={labels[g.does]}>{g.lines.join("\n")}</pre>
    </div>
  );
}
