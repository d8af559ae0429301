// The program that is tested, and recordings for it.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const workspace = fileURLToPath(new URL("../..", import.meta.url));
const program = process.env.NATTRACE ?? join(workspace, "target/debug/nattrace");

const recordings = {
  broken: "nattrace/tests/recordings/port-forward-broken.jsonl",
  fixed: "nattrace/tests/recordings/port-forward-fixed.jsonl",
  namespaces: "nattrace-core/tests/recordings/full-namespaces.jsonl",
  legacy: "nattrace-core/tests/recordings/full-legacy.jsonl",
  loopback: "nattrace-core/tests/recordings/full-loopback.jsonl",
  masquerade: "nattrace-core/tests/recordings/full-forward-masquerade.jsonl",
};

/** A recording made on a real kernel. */
export const recording = (name) => join(workspace, recordings[name]);

/** A folder that is gone when the process ends. */
export const folder = mkdtempSync(join(tmpdir(), "nattrace-report-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** Its output; packets that were dropped make its exit code 1. */
export function nattrace(...args) {
  const environment = { ...process.env, TZ: "UTC" };
  const { status, stdout, stderr } = spawnSync(program, args, { env: environment, encoding: "utf8", maxBuffer: 1 << 28 });
  if (status !== 0 && status !== 1) throw new Error(`nattrace ${args.join(" ")}: ${stderr}`);
  return stdout;
}

/** Makes a report of a recording, and gives its path. */
export function report(name, from = recording(name)) {
  const path = join(folder, `${name}.html`);
  nattrace("report", from, "-o", path);
  return path;
}

/** The lines of a replay, by type. */
export function json(from) {
  const lines = nattrace("replay", from, "--format", "json").trim().split("\n").map((line) => JSON.parse(line));
  const of = (type) => lines.filter((line) => line.type === type);
  return { journeys: of("journey"), connections: of("connection"), summary: of("summary")[0] };
}

/** The broken port-forward, with this text for each comment that somebody else wrote. */
export function hostile(text) {
  const quoted = JSON.stringify(text).slice(1, -1).replaceAll("$", "$$$$");
  const lines = readFileSync(recording("broken"), "utf8")
    .replaceAll('"text":"drop"', `"text":"drop comment \\"${quoted}\\""`)
    .replaceAll('"name":"rt"', `"name":"${quoted}"`)
    .replaceAll('"name":"enp0"', `"name":"${quoted}"`);
  const path = join(folder, "hostile.jsonl");
  writeFileSync(path, lines);
  return path;
}

/** Ten thousand packets: 625 connections of eight that came through, and 5,000 that were dropped, each another's. */
export function many() {
  const read = (name) => readFileSync(recording(name), "utf8").trim().split("\n");
  const setup = /"event":"(namespace|own_table|link|ruleset|commit)"/;
  const [header, ...broken] = read("broken");
  const fixed = read("fixed").slice(1);
  const lines = [header, ...fixed.filter((line) => setup.test(line))];
  const through = fixed.filter((line) => !setup.test(line));
  for (let at = 0; at < 625; at++) lines.push(...through.map((line) => moved(line, at, "32998")));
  lines.push(...broken.filter((line) => setup.test(line)));
  const dropped = broken.filter((line) => /"packet":1,|"set_answer"/.test(line));
  for (let at = 0; at < 5000; at++) lines.push(...dropped.map((line) => moved(line, at, "40726")));
  const path = join(folder, "many.jsonl");
  writeFileSync(path, `${lines.join("\n")}\n`);
  return path;
}

/** An event of another connection: later, of another buffer, from another port. */
function moved(line, at, port) {
  const hex = (number) => Number(number).toString(16).padStart(4, "0");
  const other = String(10000 + at);
  const add = (name, step, modulo) => (_, old) => `"${name}":${(BigInt(old) + BigInt(at) * step) % modulo}`;
  return line
    .replace(/"t":(\d+)/, add("t", 200_000_000n, 1n << 64n))
    .replace(/"packet":(\d+)/g, add("packet", 16n, 1n << 64n))
    .replace(/"key":(\d+)/g, add("key", 4096n, 1n << 64n))
    .replace(/"id":(\d+)/g, add("id", 7919n, 1n << 32n))
    .replaceAll(`"port":${port}`, `"port":${other}`)
    .replace(new RegExp(`"transport_header":"${hex(port)}`), `"transport_header":"${hex(other)}`)
    .replace(new RegExp(`"transport_header":"(....)${hex(port)}`), `"transport_header":"$1${hex(other)}`);
}
