import type { EndpointState, State } from "../types";

// A state has a shape and a word beside its colour: who sees no colour sees the shape.

const shapes: Record<string, preact.JSX.Element> = {
  disc: <circle cx="8" cy="8" r="5.5" />,
  triangle: <path d="M8 2 14.5 13.5H1.5Z" />,
  cross: <path d="M3.2 1.2 8 6l4.8-4.8 2 2L10 8l4.8 4.8-2 2L8 10l-4.8 4.8-2-2L6 8 1.2 3.2Z" />,
  ring: <path fill-rule="evenodd" d="M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2Zm0 2.6a3.4 3.4 0 1 0 0 6.8 3.4 3.4 0 0 0 0-6.8Z" />,
  half: <path fill-rule="evenodd" d="M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2Zm0 2v8a4 4 0 0 0 0-8Z" />,
};

const ofState: Record<State, string> = { Healthy: "disc", Degraded: "triangle", Unavailable: "cross", Unknown: "ring" };
const ofEndpoint: Record<EndpointState, [shape: string, tone: State]> = {
  Healthy: ["disc", "Healthy"],
  Ejected: ["triangle", "Degraded"],
  Draining: ["half", "Unknown"],
  Unreachable: ["cross", "Unavailable"],
};

function Shape({ shape, tone }: { shape: string; tone: State }) {
  return <svg class={`glyph is-${tone}`} viewBox="0 0 16 16" aria-hidden="true">{shapes[shape]}</svg>;
}

export function Glyph({ state }: { state: State }) {
  return <Shape shape={ofState[state]} tone={state} />;
}

export function EndpointGlyph({ state }: { state: EndpointState | undefined }) {
  const [shape, tone] = ofEndpoint[state ?? "Healthy"] ?? ["ring", "Unknown"];
  return <Shape shape={shape} tone={tone} />;
}

export function Badge({ state }: { state: State }) {
  return <span class={`badge is-${state}`}><Glyph state={state} />{state}</span>;
}
