// Makes docs/page-light.png and docs/page-dark.png: the page after five minutes of requests.

import { startBrowser, startServer } from "./server.mjs";

const server = await startServer("--workers", "2");
const browser = await startBrowser(`--host-resolver-rules=MAP localhost:3000 ${new URL(server.origin).host}`);
try {
  for (const colorScheme of ["light", "dark"]) {
    const page = await browser.newPage({ colorScheme, viewport: { width: 1200, height: 1100 } });
    // The page's clock runs as fast as the requests do.
    await page.clock.install();
    await page.goto("http://localhost:3000/#10000000");
    await page.waitForFunction(() => document.getElementById("status").textContent.includes("has"));
    for (let tick = 0; tick < 61; tick++) {
      const count = Math.round(60 + 25 * Math.sin(tick / 7) + 20 * Math.sin(tick * 1.7));
      const urls = Array.from({ length: count }, (_, i) => `${server.origin}/api/fibonacci/${(i % 9) ** 5 + tick}`);
      await Promise.all(urls.map(async (url) => (await fetch(url)).arrayBuffer()));
      const scrape = page.waitForResponse("**/metrics");
      await page.clock.runFor(5_000);
      await (await scrape).finished();
    }
    await page.clock.runFor(100);
    await page.screenshot({ path: `docs/page-${colorScheme}.png`, fullPage: true });
    await page.close();
  }
} finally {
  await browser.close();
  server.kill();
}
