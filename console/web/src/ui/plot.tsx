import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

export interface Line { label: string; values: (number | null)[]; tone: "first" | "second" }

interface Props { title: string; at: number[]; lines: Line[]; format: (v: number | null) => string; note?: string }

/** Plot draws lines over time, and says in words where they are now. */
export function Plot({ title, at, lines, format, note }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data: uPlot.AlignedData = [at, ...lines.map((l) => l.values)];
  const latest = useRef(data);
  latest.current = data;

  useEffect(() => {
    const element = place.current!;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(element, lines, format), latest.current, element);
    };
    draw();
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: plotHeight }));
    resized.observe(element);
    return () => {
      dark.removeEventListener("change", draw);
      resized.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);
  useEffect(() => plot.current?.setData(data));

  const now = lines.map((l) => `${l.label ? l.label + " " : ""}${format(l.values.at(-1) ?? null)}`).join(", ");
  return (
    <figure class="plot">
      <figcaption>
        <b>{title}</b>{" "}
        {lines.map((l) => (
          <span key={l.label} class={lines.length > 1 ? `key is-${l.tone}` : undefined}>{l.label} <output>{format(l.values.at(-1) ?? null)}</output></span>
        ))}
        {note && <span class="note">{note}</span>}
      </figcaption>
      <div ref={place} role="img" aria-label={`${title}, last ten minutes; now: ${now}`} />
    </figure>
  );
}

const plotHeight = 120;

/** lastTenMinutes end with the latest sample, or now where there is none. */
function lastTenMinutes(latest: number | null): [number, number] {
  const end = latest || Date.now() / 1000;
  return [end - 600, end];
}

function options(element: HTMLElement, lines: Line[], format: (v: number | null) => string): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: colour("--quiet"), font: "11px system-ui, sans-serif",
    grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false },
  };
  return {
    width: element.clientWidth || 300,
    height: plotHeight,
    cursor: { show: false },
    legend: { show: false },
    scales: { x: { time: true, range: (_, __, max) => lastTenMinutes(max) }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.15 : 1] } },
    axes: [
      { ...axis, space: 80, values: "{HH}:{mm}", size: 24 },
      { ...axis, size: 62, space: 28, values: (_, ticks) => ticks.map((t) => format(t)) },
    ],
    series: [
      {},
      ...lines.map((l): uPlot.Series => ({
        label: l.label, stroke: colour(`--${l.tone}`), width: 2, dash: l.tone === "second" ? [6, 4] : undefined,
        points: { show: false }, spanGaps: false,
      })),
    ],
  };
}
