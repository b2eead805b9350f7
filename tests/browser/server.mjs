// Starts bin/fibsrv on a free port, and a browser.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { existsSync } from "node:fs";

// The directory of the tools; see tools.sh.
export const load = createRequire(`${process.env.BROWSER_TOOLS}/`);

/** A server that is ready. Stop it with `kill`. */
export async function startServer(...flags) {
  const child = spawn("bin/fibsrv", ["--listen", "127.0.0.1:0", ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) {
    const address = line.match(/listening on (\S+)/)?.[1];
    if (address) {
      child.stdout.resume();
      return { origin: `http://${address}`, kill: () => child.kill("SIGKILL") };
    }
  }
  throw new Error("the server has exited");
}

/** Chromium of Debian, which runs as root only without its sandbox. */
export function startBrowser(...flags) {
  const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
  return load("playwright-core").chromium.launch({ executablePath, args: ["--no-sandbox", ...flags] });
}

/** Returns the value of a metric, summed over its series. */
export async function metric(server, name) {
  const text = await (await fetch(`${server.origin}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line.startsWith(name));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

/** Waits until `condition` holds, at most 20 s. */
export async function until(condition, what) {
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`timed out: ${what}`);
}
