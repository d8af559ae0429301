// A report, opened as its reader does.

import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, open } from "./browser.mjs";
import { folder, hostile, json, many, nattrace, recording, report } from "./nattrace.mjs";

const require = createRequire(import.meta.url);
const schemes = ["light", "dark"];

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/** A page in a test that must leave no trouble behind. */
async function reading(path, options, read) {
  const { page, troubles, close } = await open(browser, path, options);
  try {
    await read(page);
    assert.deepEqual(troubles, []);
  } finally {
    await close();
  }
}

const texts = (page, selector) => page.locator(selector).allTextContents();
const plain = (text) => text.replace(/\s+/g, " ").trim();

for (const colorScheme of schemes) {
  test(`the finding and its fix come first, ${colorScheme}`, () =>
    reading(report("broken"), { colorScheme }, async (page) => {
      const [first] = json(recording("broken")).journeys;
      const finding = page.locator("main .finding").first();
      assert.equal(plain(await finding.locator("dd").first().textContent()), first.findings[0].text);
      assert.equal(await finding.locator("pre").textContent(), first.findings[0].fix.join("\n"));
      assert.equal(plain(await page.locator("h1").textContent()), "6 packets: 6 dropped; 5 retransmissions among them");
      const fold = await finding.boundingBox();
      assert.ok(fold.y + fold.height < 900, "on the first screen");
    }));
}

/** What the steps of all journeys say, counted here without any of the program's own counting. */
function facts(journeys) {
  const count = new Map();
  const add = (key) => count.set(key, (count.get(key) ?? 0) + 1);
  for (const { netns, iif, steps, outcome } of journeys) {
    // A device that gave the packet though it was not seen to do so, and one that took it.
    if (iif !== null && steps[0]?.kind !== "device") add(`device ${iif}`);
    if (outcome.kind === "transmitted" && steps.at(-1)?.kind !== "device") add(`device ${outcome.device}`);
    for (const step of steps) {
      const at = step.netns?.inum ?? netns.inum;
      const layer = ["bridge", "arp"].includes(step.family) ? step.family : "ip";
      if (step.kind === "hook") add(`hook ${at}/${layer}/${step.hook}`);
      if (step.kind === "device") add(`device ${step.name}`);
      if (step.kind === "rewrite") {
        const end = ({ addr, port }) => (port === null ? addr : addr.includes(":") ? `[${addr}]:${port}` : `${addr}:${port}`);
        add(`rewrite ${step.nat.toUpperCase()} ${end(step.from)} ${end(step.to)}`);
      }
      if (step.kind === "rule") {
        // The chain stands beside it.
        const text = step.backend ? step.text.replace(`-A ${step.chain} `, "") : step.text;
        add(`rule ${step.table} ${step.chain} ${step.handle ?? step.rulenum} ${text}`);
      }
    }
    add(`end ${outcome.kind}`);
  }
  return count;
}

/** The same, as the picture and what stands behind its hooks say it. */
async function drawn(page, picture) {
  const said = await page.evaluate((id) => {
    const count = [];
    const figure = document.getElementById(id).closest(".shown");
    const cells = (row) => Array.from(row.cells, (cell) => cell.textContent.trim());
    for (const hook of figure.querySelectorAll("a.hook [data-place]")) count.push([`hook ${hook.dataset.place}`, hook.dataset.packets]);
    for (const row of figure.querySelectorAll(".hook .rewrites tbody tr")) {
      const [packets, kind, from, to] = cells(row);
      count.push([`rewrite ${kind} ${from} ${to}`, packets]);
    }
    for (const row of figure.querySelectorAll(".hook .rules tbody tr:not(.near)")) {
      const [packets, chain, text] = cells(row);
      const [, table, name, , number] = chain.split(" ");
      if (number) count.push([`rule ${table} ${name} ${number} ${text}`, packets]);
    }
    for (const item of figure.querySelectorAll(".as-table li")) {
      const [, packets, kind] = /^(\d+) (dropped|delivered|sent|queued|consumed)\b/.exec(item.textContent) ?? [];
      const outcome = kind === "sent" ? "transmitted" : kind;
      if (packets) count.push([`end ${outcome}`, packets]);
      const [, devices, name] = /^(\d+) (?:in|out) (\S+)$/.exec(item.textContent.trim()) ?? [];
      if (devices) count.push([`device ${name}`, devices]);
    }
    return count;
  }, picture);
  const count = new Map();
  for (const [key, packets] of said) count.set(key, (count.get(key) ?? 0) + Number(packets));
  return count;
}

for (const [name, picture] of [
  ["broken", "cause-1-picture"],
  ["fixed", "whole-picture"],
  ["namespaces", "whole-picture"],
  ["legacy", "whole-picture"],
  ["loopback", "whole-picture"],
  ["masquerade", "whole-picture"],
]) {
  test(`the picture of ${name} shows what the JSON says`, () =>
    reading(report(name), {}, async (page) => {
      const { journeys, summary } = json(recording(name));
      assert.deepEqual([...(await drawn(page, picture))].sort(), [...facts(journeys)].sort());
      // What comes to a place goes on from there, or ends there.
      const flow = await page.evaluate((id) => {
        const picture = document.getElementById(id);
        const places = new Map();
        for (const place of picture.querySelectorAll("[data-place]")) places.set(place.dataset.place, Number(place.dataset.packets));
        const ways = Array.from(picture.querySelectorAll(".way"), ({ dataset }) => [dataset.from, dataset.to, Number(dataset.packets)]);
        return { places: [...places], ways };
      }, picture);
      let began = 0;
      let ended = 0;
      for (const [place, packets] of flow.places) {
        const sum = (side) => flow.ways.reduce((sum, way) => sum + (way[side] === place ? way[2] : 0), 0);
        began += packets - sum(1);
        ended += packets - sum(0);
      }
      assert.deepEqual([began, ended], [summary.journeys.total, summary.journeys.total]);
    }));
}

test("a hook opens its rules: by mouse, Enter and Space; Escape closes them", () =>
  reading(report("broken"), {}, async (page) => {
    const hook = page.getByRole("button", { name: /^forward 2 rules: 6 packets, 6 dropped/ });
    const rules = page.locator("#cause-1 details.hook", { hasText: "forward" });
    const isOpen = () => rules.evaluate((details) => details.open);
    const isFocused = () => hook.evaluate((element) => element === document.activeElement);
    const expanded = async (is) => {
      assert.equal(await isOpen(), is);
      await page.waitForFunction(([button, is]) => button.getAttribute("aria-expanded") === String(is), [await hook.elementHandle(), is]);
    };
    await expanded(false);
    await hook.click();
    await expanded(true);
    assert.deepEqual((await texts(rules, ".drops td")).map(plain), ["6", "inet filter allowed_dnats handle 7", "drop", "✗ drop"]);
    assert.match(plain(await rules.locator(".near").textContent()), /handle 6.*ip daddr \. tcp dport @allow_in accept.*did not match/);
    await page.keyboard.press("Escape");
    await expanded(false);
    assert.ok(await isFocused(), "back where it was opened");
    for (const key of ["Enter", " "]) {
      await page.keyboard.press(key);
      await expanded(true);
      await page.keyboard.press("Escape");
      await expanded(false);
    }
  }));

test("everything is reached by keyboard alone, in the order of the page", () =>
  reading(report("broken"), {}, async (page) => {
    const order = [];
    for (let at = 0; at < 60; at++) {
      await page.keyboard.press("Tab");
      const focused = await page.evaluate(() => {
        const { activeElement } = document;
        if (activeElement === document.body) return null;
        const { outlineStyle } = getComputedStyle(activeElement);
        const box = activeElement.querySelector("rect");
        const marked = outlineStyle !== "none" || (box && getComputedStyle(box).strokeWidth === "4px");
        const link = activeElement.getAttribute("href");
        return { what: link ?? activeElement.id ?? "", text: activeElement.textContent, tag: activeElement.localName, marked };
      });
      if (focused === null) break;
      assert.ok(focused.marked, `${focused.tag} ${focused.text} shows that it has the focus`);
      order.push(focused);
    }
    const at = (test) => order.findIndex(test);
    const steps = [
      at(({ what }) => what === "#findings"),
      at(({ text }) => text === "Copy"),
      at(({ what }) => what === "#cause-1-0-prerouting"),
      at(({ what }) => what === "#cause-1-0-forward"),
      at(({ tag, text }) => tag === "summary" && text.includes("⇄")),
      at(({ what }) => what === "filter-text"),
      at(({ tag, text }) => tag === "summary" && text.includes("#6 ")),
    ];
    assert.ok(!steps.includes(-1), `${steps}`);
    assert.deepEqual(steps, [...steps].sort((a, b) => a - b));
  }));

test("a packet's steps are told in the words of the text form", () =>
  reading(report("fixed"), {}, async (page) => {
    const told = plain(nattrace("replay", recording("fixed")));
    // The first has its steps in the page, #4 gets them from the script.
    for (const id of [1, 4]) {
      const packet = page.locator(`#packet-${id}`);
      assert.equal(await packet.locator("table").count(), id === 1 ? 1 : 0);
      await packet.locator("summary").click();
      await packet.locator("table").waitFor();
      const rows = await packet.locator("tr").evaluateAll((rows) => rows.map((row) => Array.from(row.cells, (cell) => cell.textContent).join(" ")));
      assert.ok(rows.length >= 5);
      if (id === 1) for (const row of rows) assert.ok(told.includes(plain(row)), `${row} is not in ${told}`);
      assert.equal(plain(rows.at(-1)), id === 1 ? "→ SENT out veth21" : "→ SENT out enp0");
    }
    const [, fourth] = /(#4 tcp .*?) #5 tcp/.exec(told);
    assert.match(fourth, /like #2: sent out enp0/);
    assert.ok(plain(await page.locator("#packet-4 .end").textContent()).endsWith("like #2: sent out enp0"));
  }));

test("the filter finds packets by words, number and end", () =>
  reading(report("legacy"), {}, async (page) => {
    const { journeys } = json(recording("legacy"));
    const shown = () => page.locator("details.packet:visible").count();
    const count = page.locator("#filter-count");
    assert.equal(await shown(), journeys.length);
    const dropped = journeys.filter(({ outcome }) => outcome.kind === "dropped").length;
    await page.getByLabel("Ended").selectOption("dropped");
    assert.equal(await shown(), dropped);
    assert.equal(await count.textContent(), `${dropped} of ${journeys.length}`);
    await page.getByLabel("Ended").selectOption("");
    await page.getByRole("searchbox").fill("#2");
    await page.waitForFunction(() => document.getElementById("filter-count").textContent.startsWith("1 of"));
    assert.ok(await page.locator("#packet-2").isVisible());
    await page.getByRole("searchbox").fill("-j DROP");
    const steps = ({ steps }) => JSON.stringify(steps).includes("-j DROP");
    const with_drop = journeys.filter(steps).length;
    assert.ok(with_drop > 0 && with_drop < journeys.length);
    await page.waitForFunction((count) => document.getElementById("filter-count").textContent.startsWith(`${count} of`), with_drop);
    // A link to a packet that is filtered out shows it all the same.
    await page.getByRole("searchbox").fill("no such thing");
    await page.waitForFunction(() => document.getElementById("filter-count").textContent.startsWith("0 of"));
    await page.locator(".ladder a").first().click();
    await page.locator("details.packet[open]").waitFor();
  }));

test("a connection is told packet by packet", () =>
  reading(report("fixed"), {}, async (page) => {
    const { journeys, connections } = json(recording("fixed"));
    const rows = page.locator(".ladder tbody tr");
    assert.equal(await rows.count(), connections[0].journeys.length);
    const told = await rows.evaluateAll((rows) =>
      rows.map((row) => [row.cells[1].textContent, row.querySelector(".what").textContent, row.querySelector(".arrow").className]));
    const wanted = journeys.map(({ id, packet, connection }) => {
      const flags = packet.tcp_flags.join(" ").toUpperCase();
      const back = connection.direction === "reply";
      return [`#${id}`, back ? `← ${flags}` : `${flags} →`, `arrow ${back ? "back" : "forth"} through`];
    });
    assert.deepEqual(told, wanted);
  }));

test("on paper everything that matters is unfolded", () =>
  reading(report("broken"), {}, async (page) => {
    await page.emulateMedia({ media: "print" });
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    for (const [where, words] of [
      [".finding dd", "would have accepted it"],
      [".finding pre", "nft add element inet filter allow_in"],
      [".rules code", "ct status dnat jump allowed_dnats"],
      [".rewrites td", "192.168.70.10:22"],
      [".ladder td", "retransmits #1"],
      [".ladder td", "+1.056089 s"],
    ]) {
      assert.ok(await page.locator(where, { hasText: words }).first().isVisible(), words);
    }
    assert.ok(await page.locator("#packet-1 .steps").isVisible());
    assert.ok(await page.locator("#packet-6 summary").isVisible());
    assert.ok(!(await page.locator("#filter").isVisible()));
    await page.evaluate(() => dispatchEvent(new Event("afterprint")));
    const pdf = await page.pdf({ format: "A4" });
    const pages = pdf.toString("latin1").match(/\/Type\s*\/Page\b/g)?.length ?? 0;
    assert.ok(pages >= 1 && pages <= 3, `${pages} pages`);
  }));

test("without a script it is read all the same", () =>
  reading(report("broken"), { javaScriptEnabled: false }, async (page) => {
    assert.ok(await page.getByText("would have accepted it").first().isVisible());
    assert.ok(await page.locator("svg.picture").isVisible());
    assert.ok(await page.locator(".ladder").isVisible());
    assert.ok(!(await page.locator("#filter").isVisible()));
    await page.locator("#packet-1 > summary").click();
    assert.ok(await page.locator("#packet-1 .steps").isVisible());
    await page.locator("details.hook summary", { hasText: "forward" }).click();
    assert.ok(await page.locator(".rules code", { hasText: "ct status dnat jump allowed_dnats" }).isVisible());
  }));

const wicked = `</script></title></style><img src=x onerror=alert(1)>"'><svg onload=alert(2)>&amp;\\N{}`;

test("hostile names and comments stay text", () =>
  reading(report("hostile", hostile(wicked)), {}, async (page) => {
    assert.equal(await page.locator("img").count(), 0);
    assert.equal(await page.locator("script").count(), 2);
    assert.ok((await page.locator(".lane-name").first().textContent()).includes(wicked));
    for (const hook of await page.getByRole("button", { name: /packets/ }).all()) await hook.click();
    assert.ok((await texts(page, ".rules .drops code")).some((text) => text.includes(wicked)));
    await page.locator("#packet-2 > summary").click();
    assert.ok((await page.locator("#packet-2 .steps").textContent()).includes(wicked));
  }));

test("the picture alone is a file of its own, and hostile text stays text there", async () => {
  const from = hostile(wicked);
  const path = join(folder, "hostile.svg");
  nattrace("report", from, "--format", "svg", "-o", path);
  await reading(path, {}, async (page) => {
    const found = await page.evaluate(() => ({
      root: document.documentElement.localName,
      strange: document.querySelectorAll("script, img, svg svg, parsererror").length,
      lane: document.querySelector(".lane-name").textContent,
      drops: document.querySelector(".node.dropped").dataset.packets,
    }));
    assert.deepEqual(found, { root: "svg", strange: 0, lane: `netns ${wicked}`, drops: "6" });
  });
  const { instance } = await import("@viz-js/viz");
  const viz = await instance();
  for (const dot of [nattrace("report", from, "--format", "dot"), nattrace("report", recording("namespaces"), "--format", "dot")]) {
    const { status, errors, output } = viz.render(dot, { format: "json" });
    assert.deepEqual([status, errors.filter(({ level }) => level === "error")], ["success", []]);
    const { objects, edges } = JSON.parse(output);
    assert.ok(objects.length >= 6 && edges.length >= 4);
    if (dot.includes("onerror")) assert.ok(objects.some(({ label }) => label?.includes("<img src=x onerror=alert(1)>")));
  }
});

for (const [name, options] of [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark" }],
  ["narrow", { viewport: { width: 360, height: 720 } }],
]) {
  test(`axe finds no fault, ${name}`, async () => {
    for (const recorded of ["broken", "namespaces", "legacy"]) {
      await reading(report(recorded), options, async (page) => {
        await page.evaluate(() => {
          for (const details of document.querySelectorAll("details")) details.open = true;
        });
        // Not as an element of the page: its policy forbids that, as it must.
        await page.evaluate(readFileSync(require.resolve("axe-core/axe.min.js"), "utf8"));
        const { violations } = await page.evaluate(() => axe.run());
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("\n")}`);
        assert.deepEqual(found, [], recorded);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wide <= 0, `${recorded} is ${wide} wider than the window`);
      });
    }
  });
}

test("it is valid HTML", async () => {
  const { HtmlValidate } = await import("html-validate");
  const validator = new HtmlValidate({ extends: ["html-validate:standard"], elements: ["html5"] });
  for (const name of ["broken", "namespaces", "legacy"]) {
    const { results } = await validator.validateString(readFileSync(report(name), "utf8"));
    const found = results.flatMap(({ messages }) => messages.map(({ ruleId, message, line, column }) => `${ruleId} ${line}:${column} ${message}`));
    assert.deepEqual(found, [], name);
  }
});

test("ten thousand packets open in less than two seconds", async () => {
  const path = report("many", many());
  const size = statSync(path).size;
  assert.ok(size < 12_000_000, `${size} bytes`);
  // The quickest of up to three: a busy machine has other things to do.
  let quickest = Infinity;
  for (let opening = 0; opening < 3 && quickest >= 2000; opening++) {
    await reading(path, {}, async (page) => {
      const { loadEventEnd } = await page.evaluate(() => performance.getEntriesByType("navigation")[0].toJSON());
      quickest = Math.min(quickest, loadEventEnd);
    });
  }
  console.log(`# ${(size / 1e6).toFixed(1)} MB, loaded after ${Math.round(quickest)} ms`);
  assert.ok(quickest < 2000, `loaded after ${quickest} ms`);
  await reading(path, {}, async (page) => {
    assert.equal(plain(await page.locator("h1").textContent()), "10000 packets: 5000 dropped, 5000 sent");
    assert.equal(await page.locator("details.packet").count(), 10_000);
    const started = Date.now();
    await page.getByRole("searchbox").fill("10.2.1.2:14999");
    await page.waitForFunction(() => document.getElementById("filter-count").textContent === "1 of 10000");
    assert.ok(Date.now() - started < 2000, "the filter is as quick");
    await page.locator("details.packet:visible > summary").click();
    assert.match(await page.locator("details.packet[open]").textContent(), /DROPPED.*allowed_dnats handle 7/);
  });
});
