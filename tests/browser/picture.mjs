// The picture of a report that the README shows: `cargo xtask picture`.

import { launch, open } from "./browser.mjs";
import { report } from "./nattrace.mjs";

const WIDTH = 980;
const [, , to] = process.argv;
const browser = await launch();
try {
  const { page } = await open(browser, report("broken"), {
    viewport: { width: WIDTH, height: 900 },
    // As wide as a README is shown.
    deviceScaleFactor: 840 / WIDTH,
    colorScheme: "light",
  });
  const end = await page.locator("#packets").boundingBox();
  await page.screenshot({ path: to, fullPage: true, clip: { x: 0, y: 0, width: WIDTH, height: Math.round(end.y) } });
} finally {
  await browser.close();
}
