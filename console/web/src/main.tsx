import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { about, follow } from "./feed";
import { Store } from "./store";
import { App } from "./ui/app";
import type { About } from "./types";

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
