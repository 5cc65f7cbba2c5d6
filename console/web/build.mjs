// Builds the page from src into the folder that is named, ../dist where none is.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "..", "dist");

/** Files of which the output is made, besides what package-lock.json names. */
async function sources() {
  const found = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"];
  for (const entry of await readdir(join(here, "src"), { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) {
      found.push(relative(here, join(entry.parentPath, entry.name)).replaceAll("\\", "/"));
    }
  }
  return found.sort();
}

/** The digest that the Go test computes too, so that a forgotten build is found without node. */
async function digest() {
  const all = createHash("sha256");
  for (const name of await sources()) {
    all.update(`${name}\n${createHash("sha256").update(await readFile(join(here, name))).digest("hex")}\n`);
  }
  return all.digest("hex");
}

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  charset: "utf8",
  logLevel: "warning",
});
for (const name of ["index.html", "icon.svg"]) {
  await writeFile(join(out, name), await readFile(join(here, "src", name)));
}
let licenses = "";
for (const name of ["preact", "uplot"]) {
  const { version } = JSON.parse(await readFile(join(here, "node_modules", name, "package.json"), "utf8"));
  licenses += `${name} ${version}\n\n${(await readFile(join(here, "node_modules", name, "LICENSE"), "utf8")).trim()}\n\n`;
}
await writeFile(join(out, "licenses.txt"), licenses.replaceAll("\r\n", "\n"));
await writeFile(join(out, "sources.sha256"), (await digest()) + "\n");
