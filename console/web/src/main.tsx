import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { about, follow, identify } from "./feed";
import { Store } from "./store";
import { takeToken } from "./token";
import { App } from "./ui/app";
import type { About } from "./types";

/** enter takes the token out of the address, so that neither a link nor the history has it. */
function enter() {
  const { token, taken } = takeToken(location.hash, () => sessionStorage);
  if (token !== "") identify(token); // one that could not be stored is kept
  if (taken) history.replaceState(null, "", location.pathname + location.search);
}
enter();
addEventListener("hashchange", enter); // the address of a later run, in this tab

const root = document.getElementById("app")!;
let told: About = {};
const show = () => render(<App store={store} about={told} />, root);
const store = new Store(show);
show();
void about().then((a) => {
  told = a;
  show();
});
void follow(store);
