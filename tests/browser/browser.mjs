// A browser without a screen that reaches nothing, and pages that are watched.

import { chromium } from "playwright-core";
import { existsSync } from "node:fs";
import { pathToFileURL } from "node:url";

const programs = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"];

/** Starts it, with a profile of its own that is thrown away. */
export const launch = () =>
  chromium.launch({
    executablePath: programs.find((path) => existsSync(path)) ?? programs[1],
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });

/** Opens a file. `troubles` has every error that the page has, and every request for something else. */
export async function open(browser, path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const troubles = [];
  const url = pathToFileURL(path).href;
  page.on("console", (message) => troubles.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => troubles.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    troubles.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    if (request.url().split("#")[0] !== url) troubles.push(`request: ${request.url()}`);
  });
  await page.goto(url);
  return { page, troubles, close: () => context.close() };
}
