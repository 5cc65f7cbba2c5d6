import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { matches, type Filter } from "../order";
import type { Store } from "../store";
import type { About } from "../types";
import { Details } from "./details";
import { Header } from "./header";
import { ServiceMap } from "./map";
import { Overview } from "./overview";
import { Timeline } from "./timeline";

/** chosenName is the APIService that the address names. */
function chosenName(): string {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

/** useChosen keeps the choice in the address, so that a link and the back button lead to it. */
function useChosen(): [string, (name: string) => void] {
  const [chosen, setChosen] = useState(chosenName);
  useEffect(() => {
    const follow = () => setChosen(chosenName());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return [chosen, (name) => {
    // The address without a hash would load the page anew.
    history.pushState(null, "", name === "" ? location.pathname + location.search : "#" + encodeURIComponent(name));
    setChosen(name);
  }];
}

export function App({ store, about }: { store: Store; about: About }) {
  const [filter, setFilter] = useState<Filter>({ states: [], words: "" });
  const [chosen, choose] = useChosen();
  const opener = useRef("");
  const back = useRef("");
  const all = store.byGravity();
  const shown = useMemo(() => all.filter((s) => matches(s, filter)), [all, filter]);
  const service = store.services.get(chosen);

  const open = (name: string) => {
    opener.current = name;
    choose(name);
  };
  const close = () => {
    back.current = opener.current || chosen;
    choose("");
  };
  // What has opened the details gets the keyboard back once they are gone.
  useLayoutEffect(() => {
    if (chosen !== "" || back.current === "") return;
    (document.querySelector<HTMLElement>(`[data-name="${CSS.escape(back.current)}"]`) ?? document.getElementById("services"))?.focus();
    back.current = "";
  }, [chosen]);

  return (
    <>
      <Header store={store} about={about} filter={filter} onFilter={setFilter} />
      <div class="visually-hidden" role="status" aria-live="polite">{store.spoken}</div>
      <div class={["columns", service && "has-details", store.connection.state === "lost" && "is-old"].filter(Boolean).join(" ")}>
        <main>
          <ServiceMap store={store} shown={shown} chosen={chosen} onOpen={open} />
        </main>
        <aside aria-label={service ? "The chosen APIService" : "All APIServices"}>
          {service
            ? <Details key={chosen} store={store} service={service} doctor={about.doctor === true} onClose={close} />
            : <Overview store={store} missing={chosen} onOpen={open} />}
        </aside>
        <Timeline lines={store.lines} onOpen={open} services={store.services} />
      </div>
      <footer>
        Read-only. Times are told by the API server's clock, in the time zone of this browser. <a href="licenses.txt">Licenses</a>
      </footer>
    </>
  );
}
