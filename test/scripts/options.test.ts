import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { runScript } from "../support/run_script.js";

/** The scripts of package.json that have options of their own. */
const scripts = Object.entries({
  fuzz: "fuzz",
  gpu: "gpu",
  kernels: "kernels",
  loops: "loops",
  setup: "setup",
  "test:faults": "faults",
  "test:memory": "memory",
  "test:ptx": "ptx",
  "test:race": "race",
  "test:sanitize": "sanitize",
});

describe.each(scripts)("npm run %s", (name, file) => {
  const script = `scripts/${file}.mjs`;

  test("is a script of the package", () => {
    const { scripts: commands } = JSON.parse(readFileSync("package.json", "utf8"));
    expect(commands[name]).toMatch(new RegExp(`node ${script}$`));
  });

  test("prints help", () => {
    const { status, stdout, stderr } = runScript(script, ["--help"]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain(`Usage: npm run ${name} -- `);
  });

  test("refuses unknown options with one message and its usage", () => {
    const { status, stdout, stderr } = runScript(script, ["--frobnicate"]);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(/^Unknown option '--frobnicate'.*\nUsage: npm run /);
  });
});
