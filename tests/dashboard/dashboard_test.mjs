// Draws a dashboard with Grafana's components in Chromium, and checks what is visible: no panel without data, axes with the unit of the
// panel, and the line of each limit. Then draws a copy with a defect in several panels, each of which the checks must report.
//
//   DASHBOARD_TOOLS=DIRECTORY BROWSER_TOOLS=DIRECTORY dashboard_test.mjs DATA DASHBOARD.json [PICTURE.png]
//
// DATA is the URL of a Prometheus, or a file that dashboard_recording.py has written.
import { readFile } from "node:fs/promises";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

const [data, file, picture] = process.argv.slice(2);
const tools = createRequire(path.join(process.env.DASHBOARD_TOOLS, "node_modules/"));
const browsers = createRequire(path.join(process.env.BROWSER_TOOLS, "node_modules/"));
const esbuild = tools("esbuild");
const { chromium } = browsers("playwright-core");

const SECONDS = 18;
const recorded = data.startsWith("http") ? undefined : JSON.parse(await readFile(data, "utf8"));
const TIMEOUT_MS = 60_000;
/// Labels of an axis by unit.
const UNITS = {
  s: /^0 s$|\d (ns|µs|ms|s|min)$/,
  bytes: /\d (B|KiB|MiB|GiB)$/,
  Bps: /\d (B|kB|MB|GB)\/s$/,
  percentunit: /\d%$/,
  reqps: /\d (K )?req\/s$/,
  cps: /\d (K )?c\/s$/,
  ops: /\d (K )?ops\/s$/,
  short: /\d( [KMB])?(il)?$/,
};
/// Types of panels whose components Grafana's packages do not export: they are part of the server.
const NOT_EXPORTED = ["alertlist", "heatmap", "row"];

/// In a module esbuild takes all exports of this CommonJS package for the default one.
const scrollbars = {
  name: "scrollbars",
  setup(build) {
    const [filter, namespace] = [/^react-custom-scrollbars-2$/, "scrollbars"];
    build.onResolve({ filter }, (found) => (found.namespace === namespace ? undefined : { path: found.path, namespace }));
    build.onLoad({ filter, namespace }, ({ path: name }) => ({
      contents: `export { Scrollbars as default } from "${name}";`,
      resolveDir: process.env.DASHBOARD_TOOLS,
    }));
  },
};

async function bundle() {
  const built = await esbuild.build({
    entryPoints: [path.join(import.meta.dirname, "panels.jsx")],
    bundle: true,
    write: false,
    outdir: "/",
    format: "esm",
    jsx: "transform",
    target: "es2022",
    define: { "process.env.NODE_ENV": '"production"', global: "window" },
    loader: { ".svg": "dataurl", ".woff2": "empty", ".woff": "empty", ".ttf": "empty" },
    nodePaths: [path.join(process.env.DASHBOARD_TOOLS, "node_modules")],
    plugins: [scrollbars],
    logLevel: "silent",
  });
  return Object.fromEntries(built.outputFiles.map(({ path: name, text }) => [path.extname(name), text]));
}

function pageOf(dashboard, styles) {
  const now = Math.floor(Date.now() / 1000) - 1;
  const { start, end, results } = recorded ?? { start: now - SECONDS, end: now };
  const settings = JSON.stringify({ dashboard, prometheus: data, recording: results, start, end }).replaceAll("<", "\\u003c");
  const reset = "*{box-sizing:border-box}body{margin:0;font:13px sans-serif}ul{list-style:none;margin:0;padding:0}button{all:unset}";
  return `<!doctype html><meta charset=utf-8><title>${file}</title><style>${styles ?? ""}${reset}</style><div id=root></div>
<script>window.process={env:{NODE_ENV:"production"}};window.settings=${settings}</script><script type=module src=/bundle.js></script>`;
}

/// Serves the dashboards as /0, /1 and so on.
async function serve(dashboards) {
  const { ".js": script, ".css": styles } = await bundle();
  const server = http.createServer((request, response) => {
    const dashboard = dashboards[Number(request.url.slice(1))];
    response.setHeader("Content-Type", dashboard ? "text/html" : "text/javascript");
    response.end(dashboard ? pageOf(dashboard, styles) : script);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

/// Returns what is drawn in each panel.
function drawn() {
  return [...document.querySelectorAll("[data-title]")].map((panel) => {
    const canvases = [...panel.querySelectorAll("canvas")];
    return {
      id: Number(panel.dataset.id),
      series: Number(panel.dataset.series),
      largest: Number(panel.dataset.largest),
      texts: canvases.flatMap((canvas) => canvas.texts ?? []),
      strokes: [...new Set(canvases.flatMap((canvas) => canvas.strokes ?? []))],
      words: panel.innerText,
    };
  });
}

/// Yields what is wrong with a drawn panel.
function* check(panel, found, colours) {
  if (!found) return yield `cannot be drawn: ${panel.type}`;
  if (found.series === 0) return yield "no data";
  if (panel.type === "stat") return yield* checkStat(panel, found);
  if (panel.type === "table") {
    const rows = found.words.split("\n").length - 1;
    if (rows < 4) yield `shows ${JSON.stringify(found.words)}`;
    return;
  }
  yield* checkAxis(panel, found);
  yield* checkLimits(panel, found, colours);
}

function* checkStat(panel, found) {
  const words = found.words.replace(panel.title, "");
  if ((words.match(/\d/g) ?? []).length < panel.targets.length) yield `shows ${JSON.stringify(words)}`;
}

function* checkAxis(panel, found) {
  const { unit, max, custom } = panel.fieldConfig.defaults;
  const labels = found.texts.filter((text) => text && !/^\d\d:\d\d(:\d\d)?$/.test(text));
  if (labels.length < 2) yield `an axis without labels: ${found.texts}`;
  if (!(unit in UNITS)) return yield `unknown unit ${unit}`;
  const wrong = labels.filter((label) => !UNITS[unit].test(label));
  if (wrong.length > 0) yield `labels without the unit ${unit}: ${wrong}`;
  // Without values Grafana's axis ends at 100.
  const isBounded = max !== undefined || custom?.axisSoftMax !== undefined;
  if (found.largest === 0 && !isBounded) yield `an arbitrary axis: ${labels}`;
}

function* checkLimits(panel, found, colours) {
  const { thresholds, custom } = panel.fieldConfig.defaults;
  const isDrawn = custom?.thresholdsStyle?.mode === "line";
  if (isDrawn !== /The line is/.test(panel.description)) yield "the description and the limit lines differ";
  for (const step of isDrawn ? thresholds.steps.filter(({ value }) => value !== null) : []) {
    // Lines of limits are translucent, unlike those of series.
    const [red, green, blue] = colours[step.color].match(/[0-9a-f]{2}/g).map((part) => parseInt(part, 16));
    const line = `rgba(${red}, ${green}, ${blue}, `;
    if (!found.strokes.some((stroke) => stroke.startsWith(line))) yield `no line at ${step.value} in ${line}: ${found.strokes}`;
  }
}

/// Defects, each made in a panel of its own that the filter accepts, and the report that is expected.
const DEFECTS = [
  ["no data", ({ type }) => type === "timeseries", (panel) => panel.targets.forEach((target) => (target.expr = "fibsrv_nothing"))],
  ["no data", ({ type }) => type === "stat", (panel) => panel.targets.forEach((target) => (target.expr = "fibsrv_nothing"))],
  ["unknown unit", ({ type }) => type === "timeseries", ({ fieldConfig }) => (fieldConfig.defaults.unit = "seconds")],
  ["arbitrary axis", ({ type }, found) => type === "timeseries" && found?.largest === 0, ({ fieldConfig }) => delete fieldConfig.defaults.custom.axisSoftMax],
  ["without labels", ({ type }) => type === "timeseries", ({ fieldConfig }) => (fieldConfig.defaults.custom.axisPlacement = "hidden")],
  ["limit lines differ", ({ fieldConfig }) => fieldConfig?.defaults.custom?.thresholdsStyle, ({ fieldConfig }) => delete fieldConfig.defaults.custom.thresholdsStyle],
  ["cannot be drawn", ({ type }) => type === "timeseries", (panel) => (panel.type = "graph")],
];

/// Returns a copy with all defects, and pairs of a panel and the expected report. `found` is what is drawn of the original.
function broken(dashboard, found) {
  const copy = structuredClone(dashboard);
  const free = new Set(copy.panels);
  const expected = DEFECTS.map(([report, accepts, change]) => {
    const panel = [...free].find((candidate) => accepts(candidate, found.get(candidate.id)));
    if (!panel) throw new Error(`no panel for the defect "${report}"`);
    free.delete(panel);
    change(panel);
    return [panel, report];
  });
  return [copy, expected];
}

async function draw(browser, url, dashboard, picture) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 1000 } });
  page.setDefaultTimeout(TIMEOUT_MS);
  const problems = [];
  page.on("pageerror", (error) => problems.push(`error in the page: ${error.message.slice(0, 300)}`));
  await page.goto(url);
  const isDrawn = () => window.isRendered && [...document.querySelectorAll("canvas")].some((canvas) => canvas.texts?.length);
  await page.waitForFunction(isDrawn).catch((error) => {
    throw new Error(`${error.message} ${problems.join("; ")}`);
  });
  const steps = dashboard.panels.flatMap((panel) => panel.fieldConfig?.defaults.thresholds?.steps ?? []);
  const names = [...new Set(steps.map(({ color }) => color))];
  const colours = await page.evaluate((list) => Object.fromEntries(list.map((name) => [name, window.colour(name).toLowerCase()])), names);
  const found = new Map((await page.evaluate(drawn)).map((panel) => [panel.id, panel]));
  for (const panel of dashboard.panels.filter(({ type }) => !NOT_EXPORTED.includes(type))) {
    problems.push(...[...check(panel, found.get(panel.id), colours)].map((problem) => `${panel.title}: ${problem}`));
  }
  if (picture) {
    await page.screenshot({ path: picture, fullPage: true });
  }
  await page.close();
  return [found, problems];
}

const dashboard = JSON.parse(await readFile(file, "utf8"));
const served = [dashboard];
const server = await serve(served);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const problems = [];
try {
  const base = `http://127.0.0.1:${server.address().port}`;
  const [found, seen] = await draw(browser, `${base}/0`, dashboard, picture);
  problems.push(...seen);
  const [defective, expected] = broken(dashboard, found);
  served.push(defective);
  const [, reported] = await draw(browser, `${base}/1`, defective);
  for (const [panel, report] of expected) {
    const isReported = reported.some((problem) => problem.startsWith(`${panel.title}: `) && problem.includes(report));
    if (!isReported) problems.push(`the defect "${report}" of ${panel.title} is not reported`);
  }
  console.log(`dashboard: ${found.size} panels of ${path.basename(file)} drawn with Grafana's components; ${expected.length} defects of a copy reported`);
} finally {
  await browser.close();
  server.close();
}
if (problems.length > 0) {
  console.error(problems.map((problem) => `dashboard: ${problem}`).join("\n"));
  process.exitCode = 1;
}
