import { clock } from "../clock";
import { countByState, states, type Filter } from "../order";
import { span } from "../format";
import type { Store } from "../store";
import type { About, State } from "../types";
import { Glyph } from "./glyph";

interface Props { store: Store; about: About; filter: Filter; onFilter: (f: Filter) => void }

export function Header({ store, about, filter, onFilter }: Props) {
  const n = countByState(store.services.values());
  const toggle = (s: State) => onFilter({
    ...filter,
    states: filter.states.includes(s) ? filter.states.filter((x) => x !== s) : [...filter.states, s],
  });
  return (
    <header>
      <div class="title">
        <h1>Annex console</h1>
        {about.cluster && <span class="cluster">{about.cluster}</span>}
        <ConnectionState store={store} />
      </div>
      {store.source.plain && <p class="notice">{store.source.why}</p>}
      {clock.note() && <p class="notice">{clock.note()}</p>}
      {store.connection.state === "lost" && (
        <p class="notice is-lost" role="alert">
          Not connected: {store.connection.why}. {store.services.size > 0 ? "What is shown is what was known then." : ""}
        </p>
      )}
      <form class="filter" role="search" aria-label="APIServices" onSubmit={(e) => e.preventDefault()}>
        <div role="group" aria-label="Show only these states" class="counts">
          {states.map((s) => (
            <button type="button" key={s} class={`count is-${s}`} aria-pressed={filter.states.includes(s)} onClick={() => toggle(s)}>
              <Glyph state={s} /><b>{n[s]}</b> {s}
            </button>
          ))}
        </div>
        <label class="words">
          <span class="visually-hidden">Filter by name, Service, reason or fault</span>
          <input
            type="search" placeholder="name, Service, reason or fault" autocomplete="off" spellcheck={false} value={filter.words}
            onInput={(e) => onFilter({ ...filter, words: e.currentTarget.value })}
          />
        </label>
      </form>
    </header>
  );
}

function ConnectionState({ store }: { store: Store }) {
  const { state, since } = store.connection;
  const word = state === "live" ? "live" : state === "connecting" ? "connecting" : `lost ${span(Date.now() - since)} ago`;
  return <span class={`connection is-${state}`}><span class="dot" aria-hidden="true" />{word}</span>;
}
