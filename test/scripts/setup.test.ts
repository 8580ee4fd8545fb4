import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** A small project with the same layout, which builds in a second and leaves the real one untouched. */
const project = mkdtempSync(join(tmpdir(), "moe setup "));

const files = {
  "lib/index.ts": "export const answer: number = 42;\n",
  "lib/cli/main.ts": 'import { answer } from "../index.js";\nconsole.log("main", answer);\n',
  "native/addon.c": `#include <node_api.h>
NAPI_MODULE_INIT() { return exports; }
`,
  "test/native/main.cc": "int main() {}\n",
  "CMakeLists.txt": `cmake_minimum_required(VERSION 3.22)
project(small C CXX)
add_library(moe_kernels SHARED native/addon.c)
set_target_properties(moe_kernels PROPERTIES PREFIX "" SUFFIX ".node")
target_include_directories(moe_kernels PRIVATE \${CMAKE_JS_INC})
`,
};

/** Modules that are published beside those of `files`. */
const published = [
  ...["checkpoint/safetensors/index", "checkpoint/gguf/index", "parallel/index", "testing/index", "bench/index"],
  ...["core/addon/addon_files", "core/addon/not_built", "core/addon/platforms"],
].map((name) => [`lib/${name}.ts`, "export {};\n"]);

beforeAll(() => {
  for (const [path, content] of [...Object.entries(files), ...published] as [string, string][]) {
    mkdirSync(dirname(join(project, path)), { recursive: true });
    writeFileSync(join(project, path), content);
  }
  const copies = [
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    ...["setup", "build_native", "files", "join_modules", "options"].map((name) => `scripts/${name}.mjs`),
  ];
  for (const path of copies) cpSync(join(root, path), join(project, path));
  symlinkSync(join(root, "node_modules"), join(project, "node_modules"));
});

afterAll(() => rmSync(project, { recursive: true }));

function setup(args: string[] = [], env: NodeJS.ProcessEnv = process.env) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(project, "scripts/setup.mjs"), ...args], {
    encoding: "utf8",
    env,
  });
  const done = [...stdout.matchAll(/^setup: (\w+) done in/gm)].map((match) => match[1]);
  return { status, stdout, stderr, done };
}

describe("setup in a path with spaces", () => {
  test("names what is missing if there are no build tools", () => {
    const { status, stderr, done } = setup([], { ...process.env, PATH: "", CXX: "" });
    expect(status).toBe(1);
    expect(done).toEqual(["typescript"]);
    expect(stderr).toMatch(/not found: CMake .*a C\+\+ compiler .*a build tool/);
    expect(stderr).toContain("CMake >= 3.22 and a C++20 compiler");
  });

  test("builds the addon without a network", () => {
    expect(setup()).toMatchObject({ status: 0, done: ["native"] });
    expect(spawnSync(process.execPath, [join(project, "dist/cli/main.js")], { encoding: "utf8" }).stdout).toBe(
      "main 42\n",
    );
  });

  test("skips what is up to date", () => {
    expect(setup()).toMatchObject({ status: 0, stdout: "", stderr: "" });
  });

  test("compiles what changed, and only that", () => {
    appendFileSync(join(project, "lib/index.ts"), "export const question = 0;\n");
    expect(setup()).toMatchObject({ status: 0, done: ["typescript"] });
    appendFileSync(join(project, "native/addon.c"), "\n");
    expect(setup(["--typescript"])).toMatchObject({ status: 0, stdout: "" });
    expect(setup()).toMatchObject({ status: 0, done: ["native"] });
  });

  test("builds only the parts that it is asked for", () => {
    expect(setup(["--only", "cpu"])).toMatchObject({ status: 0, stdout: "" }); // part of what there is
    appendFileSync(join(project, "native/addon.c"), "\n");
    expect(setup(["--only", "cpu"])).toMatchObject({ status: 0, done: ["cpu"] });
    expect(setup(["--only", "cpu"])).toMatchObject({ status: 0, stdout: "" });
    const { status, stderr } = setup(["--only", "cpu,gpu"]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^--only: expected some of cpu, simt, cuda, got gpu\n/);
  });

  test("builds again, without what CMake has cached, if a variable that names a tool changes", () => {
    const cache = join(project, "build", "CMakeCache.txt");
    const env = { ...process.env, CUDAHOSTCXX: "/an/older/g++" };
    appendFileSync(cache, "CMAKE_CUDA_COMPILER:FILEPATH=NOTFOUND\n");
    expect(setup([], env)).toMatchObject({ status: 0, done: ["native"] });
    expect(readFileSync(cache, "utf8")).not.toContain("CMAKE_CUDA_COMPILER");
    expect(setup([], env)).toMatchObject({ status: 0, stdout: "" });
    expect(setup()).toMatchObject({ status: 0, done: ["native"] });
  });

  test("removes the outputs of a deleted source file", () => {
    writeFileSync(join(project, "lib/extra.ts"), "export {};\n");
    setup(["--typescript"]);
    const outputs = ["build/lib/extra.js", "build/lib/extra.js.map", "dist/extra.d.ts"];
    const present = () => outputs.filter((path) => existsSync(join(project, path)));
    expect(present()).toEqual(outputs);
    rmSync(join(project, "lib/extra.ts"));
    setup(["--typescript"]);
    expect(present()).toEqual([]);
  });

  test("joins modules, and leaves nothing of what was joined before", () => {
    const scripts = () =>
      readdirSync(join(project, "dist"), { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".js"));
    const before = scripts();
    expect(before.filter((path) => path.startsWith("chunks"))).toHaveLength(1);
    appendFileSync(join(project, "lib/index.ts"), "export const another = 1;\n");
    setup(["--typescript"]);
    expect(scripts()).toHaveLength(before.length);
    expect(scripts()).not.toEqual(before);
  });

  test("fails if the compiler reports an error, and tries again next time", () => {
    appendFileSync(join(project, "native/addon.c"), "#error broken\n");
    for (const _ of [1, 2]) {
      const { status, stderr } = setup();
      expect(status).toBe(1);
      expect(stderr).toMatch(/setup: native failed: cmake build failed \(exit code 1\)/);
    }
  });
});

test("setup installs an optional package that a lock file has got since, unless it is for another system", () => {
  const folder = join(project, "bench/peers/programs");
  /** An entry of the lock file, and its tarball. */
  const pack = (name: string, os: string) => {
    const source = join(project, name);
    const manifest = { name, version: "1.0.0", os: [os], cpu: [process.arch] };
    mkdirSync(source);
    writeFileSync(join(source, "package.json"), JSON.stringify(manifest));
    npm(["pack", "--pack-destination", folder], source);
    return { version: "1.0.0", resolved: `file:${name}-1.0.0.tgz`, optional: true, os: [os], cpu: [process.arch] };
  };
  const write = (packages: Readonly<Record<string, object & { resolved: string }>>) => {
    const files = Object.entries(packages).map(([name, { resolved }]) => [name, resolved]);
    const root = { name: "peers", version: "1.0.0", optionalDependencies: Object.fromEntries(files) };
    const entries = Object.entries(packages).map(([name, entry]) => [`node_modules/${name}`, entry]);
    const lock = { ...root, lockfileVersion: 3, packages: { "": root, ...Object.fromEntries(entries) } };
    writeFileSync(join(folder, "package.json"), JSON.stringify(root));
    writeFileSync(join(folder, "package-lock.json"), JSON.stringify(lock));
  };
  mkdirSync(folder, { recursive: true });
  const elsewhere = pack("elsewhere", process.platform === "aix" ? "linux" : "aix");
  write({ elsewhere });
  expect(setup(["--typescript", "--peers"])).toMatchObject({ status: 0, done: [] });
  write({ elsewhere, here: pack("here", process.platform) });
  expect(setup(["--typescript", "--peers"])).toMatchObject({ status: 0, done: ["peers"] });
  expect(existsSync(join(folder, "node_modules/here/package.json"))).toBe(true);
  expect(existsSync(join(folder, "node_modules/elsewhere"))).toBe(false);
  expect(setup(["--typescript", "--peers"])).toMatchObject({ status: 0, stdout: "" });
});

function npm(args: readonly string[], cwd: string): void {
  const { status, stderr } = spawnSync("npm", args, { cwd, encoding: "utf8" });
  expect({ status, stderr }).toMatchObject({ status: 0 });
}
