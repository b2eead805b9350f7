// Draws a dashboard with Grafana's components in Chromium, and checks what is visible: no panel without data, axes with the unit of the
// panel, and the line of each limit.
//
//   DASHBOARD_TOOLS=DIRECTORY dashboard_test.mjs PROMETHEUS DASHBOARD.json [PICTURE.png]
import { readFile } from "node:fs/promises";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

const [prometheus, file, picture] = process.argv.slice(2);
const tools = createRequire(path.join(process.env.DASHBOARD_TOOLS, "node_modules/"));
const browsers = createRequire(path.join(process.env.BROWSER_TOOLS, "node_modules/"));
const esbuild = tools("esbuild");
const { chromium } = browsers("playwright-core");

const SECONDS = 18;
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
/// Not drawn: metrics of components that do not run in this test, or of events that have not happened.
const WITHOUT_DATA = /^Container /;

const dashboard = JSON.parse(await readFile(file, "utf8"));
const problems = [];

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
    logLevel: "silent",
  });
  return Object.fromEntries(built.outputFiles.map(({ path: name, text }) => [path.extname(name), text]));
}

function pageOf(styles) {
  const end = Math.floor(Date.now() / 1000) - 1;
  const settings = JSON.stringify({ dashboard, prometheus, start: end - SECONDS, end }).replaceAll("<", "\\u003c");
  const reset = "*{box-sizing:border-box}body{margin:0;font:13px sans-serif}ul{list-style:none;margin:0;padding:0}button{all:unset}";
  return `<!doctype html><meta charset=utf-8><title>${file}</title><style>${styles ?? ""}${reset}</style><div id=root></div>
<script>window.process={env:{NODE_ENV:"production"}};window.settings=${settings}</script><script type=module src=/bundle.js></script>`;
}

async function serve() {
  const { ".js": script, ".css": styles } = await bundle();
  const server = http.createServer((request, response) => {
    const isScript = request.url === "/bundle.js";
    response.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? script : pageOf(styles));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

/// Returns what is drawn in each panel.
function drawn() {
  return [...document.querySelectorAll("[data-title]")].map((panel) => {
    const canvases = [...panel.querySelectorAll("canvas")];
    return {
      title: panel.dataset.title,
      series: Number(panel.dataset.series),
      texts: canvases.flatMap((canvas) => canvas.texts ?? []),
      strokes: [...new Set(canvases.flatMap((canvas) => canvas.strokes ?? []))],
      words: panel.innerText,
    };
  });
}

function check(panel, found, colours) {
  const fail = (text) => problems.push(`${panel.title}: ${text}`);
  if (found.series === 0) return WITHOUT_DATA.test(panel.title) || fail("no data");
  const { unit, thresholds, custom } = panel.fieldConfig.defaults;
  if (panel.type === "stat") {
    if (!/\d/.test(found.words.replace(panel.title, ""))) fail(`shows ${JSON.stringify(found.words)}`);
    return;
  }
  const labels = found.texts.filter((text) => text && !/^\d\d:\d\d(:\d\d)?$/.test(text));
  if (labels.length < 2) fail(`an axis without labels: ${found.texts}`);
  const wrong = labels.filter((label) => !UNITS[unit].test(label));
  if (wrong.length > 0) fail(`labels without the unit ${unit}: ${wrong}`);
  if (custom?.thresholdsStyle?.mode === "line") {
    for (const step of thresholds.steps.filter(({ value }) => value !== null)) {
      // Lines of limits are translucent, unlike those of series.
      const [red, green, blue] = colours[step.color].match(/[0-9a-f]{2}/g).map((part) => parseInt(part, 16));
      const line = `rgba(${red}, ${green}, ${blue}, `;
      if (!found.strokes.some((stroke) => stroke.startsWith(line))) fail(`no line at ${step.value} in ${line}: ${found.strokes}`);
    }
  }
}

const server = await serve();
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const page = await browser.newPage({ viewport: { width: 1440, height: 1000 } });
  page.setDefaultTimeout(TIMEOUT_MS);
  page.on("pageerror", (error) => problems.push(`error in the page: ${error.message.slice(0, 300)}`));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(() => window.isRendered && [...document.querySelectorAll("canvas")].some((canvas) => canvas.texts?.length));
  const names = [...new Set(dashboard.panels.flatMap((panel) => (panel.fieldConfig?.defaults.thresholds?.steps ?? []).map(({ color }) => color)))];
  const colours = await page.evaluate((list) => Object.fromEntries(list.map((name) => [name, window.colour(name).toLowerCase()])), names);
  const panels = await page.evaluate(drawn);
  for (const found of panels) {
    check(dashboard.panels.find(({ type, title }) => type !== "row" && title === found.title), found, colours);
  }
  if (picture) {
    // Without the rows at the end that have no data here.
    const height = await page.evaluate(() => Math.max(...[...document.querySelectorAll("[data-series]:not([data-series='0'])")].map((panel) => panel.getBoundingClientRect().bottom)));
    await page.screenshot({ path: picture, fullPage: true, clip: { x: 0, y: 0, width: 1440, height: height + 8 } });
  }
  console.log(`dashboard: ${panels.length} panels drawn with Grafana's components`);
} finally {
  await browser.close();
  server.close();
}
if (problems.length > 0) {
  console.error(problems.map((problem) => `dashboard: ${problem}`).join("\n"));
  process.exitCode = 1;
}
