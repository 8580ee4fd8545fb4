import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { needs } from "../support/requirements.js";
import { runScript } from "../support/run_script.js";

const script = "scripts/arm64.mjs";

test("every instruction set of AArch64 computes what the tests of kernels expect, under emulation", {
  // It builds what has changed: minutes after a change of the kernels.
  timeout: 45 * 60_000,
  ...needs("compiler and emulator of AArch64"),
}, async () => {
  const child = spawn(process.execPath, [script, "--quick"], {
    cwd: packageRoot(),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += text));
  const [status] = await once(child, "close");
  const lines = output.split("\n");
  const failed = lines.findIndex((line) => line.startsWith("FAIL "));
  const said = failed < 0 && status === 0 ? [] : lines.slice(Math.max(0, failed < 0 ? lines.length - 40 : failed));
  expect(said).toEqual([]);
  expect(output).toMatch(/^pass tiles_multiply_and_rows_do_not_depend_on_their_tile$/m);
  expect(Number(/^(\d+) passed, 0 failed$/m.exec(output)?.[1])).toBeGreaterThan(20);
});

test("a wrong option is named", () => {
  const { status, stderr } = runScript(script, ["--fast"]);
  expect(status).toBe(2);
  expect(stderr).toMatch(/--fast.*Usage: npm run test:arm64 -- /s);
});
