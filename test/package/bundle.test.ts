import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { addonFile, platformName, platformPackage } from "../../lib/core/addon/platforms.js";
import { packageVersion } from "../../lib/core/addon/version.js";
import { repository, run, Workspace } from "./project.js";

const binary = process.env.MOE_KERNELS_BINARY || join(repository, "build", "Release", addonFile);
const workspace = new Workspace();
afterAll(() => workspace.remove());

/** A program that reports that the import worked, then computes on the named device. */
const application = `import { isMoeError, openDevice } from ${JSON.stringify(join(repository, "lib", "index.ts"))};
console.log("imported");
try {
  const device = openDevice(process.argv[2]);
  console.log(device.tensor([1, 2]).dataSync().join());
} catch (error) {
  console.log(isMoeError(error) ? error.code + " " + error.message : error);
}`;

describe.each([
  ["esm", "mjs"],
  ["cjs", "cjs"],
] as const)("a bundle as %s", (format, extension) => {
  let project: string;
  let bundle: string;
  beforeAll(() => {
    project = workspace.project(`bundled ${format}`);
    writeFileSync(join(project, "app.js"), application);
    bundle = join(project, "out", `app.${extension}`);
    const entryPoints = [join(project, "app.js")];
    const log = { logOverride: { "empty-import-meta": "silent" } } as const;
    buildSync({ entryPoints, outfile: bundle, bundle: true, platform: "node", target: "node20", format, ...log });
  });

  const runBundle = (device: string, env: NodeJS.ProcessEnv = {}) =>
    run(process.execPath, [bundle, device], project, { MOE_KERNELS_BINARY: "", ...env });

  test("computes on reference without the package", () => {
    expect(runBundle("reference")).toMatchObject({ status: 0, stdout: "imported\n1,2\n", stderr: "" });
  });

  test("says at the first use of a native device that the package is missing", () => {
    const { status, stdout } = runBundle("cpu");
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringMatching(/^imported\nNOT_BUILT /) });
    expect(stdout).toContain("this program is a bundle, and the package moe-kernels is not installed where it runs");
    expect(stdout).toContain("npm install moe-kernels in the folder of the program");
    expect(stdout).toContain("MOE_KERNELS_BINARY");
  });

  test("uses the addon that MOE_KERNELS_BINARY names", () => {
    const ran = runBundle("cpu", { MOE_KERNELS_BINARY: binary });
    expect(ran).toMatchObject({ status: 0, stdout: "imported\n1,2\n", stderr: "" });
  });

  test("uses the addon of the platform's package that is installed beside it, of the same version only", () => {
    const folder = join(project, "node_modules", platformPackage(platformName()));
    mkdirSync(folder, { recursive: true });
    symlinkSync(binary, join(folder, addonFile));
    writeFileSync(join(folder, "package.json"), JSON.stringify({ version: "0.0.1" }));
    expect(runBundle("cpu").stdout).toContain(`has version 0.0.1, expected ${packageVersion}`);
    writeFileSync(join(folder, "package.json"), JSON.stringify({ version: packageVersion }));
    expect(runBundle("cpu")).toMatchObject({ status: 0, stdout: "imported\n1,2\n", stderr: "" });
    rmSync(folder, { recursive: true });
  });

  test("uses the addon of the package that is installed beside it", () => {
    mkdirSync(join(project, "node_modules"), { recursive: true });
    symlinkSync(repository, join(project, "node_modules", "moe-kernels"), "junction");
    expect(runBundle("cpu")).toMatchObject({ status: 0, stdout: "imported\n1,2\n", stderr: "" });
  });
});

test("bundles contain the package's version", () => {
  expect(packageVersion).toBe(JSON.parse(readFileSync(join(repository, "package.json"), "utf8")).version);
});
