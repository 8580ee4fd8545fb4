import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { packageRoot } from "#lib/core/addon/package_root.js";
import { llamaCppCommand } from "../../bench/peers/llama_cpp.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { leftOut } from "../support/requirements.js";
import { compiling, fakeProgram } from "./support/fake_compiler.js";

describe("the program that calls llama.cpp's libraries", () => {
  /** As on a machine where the package is installed. */
  function installed(folder: string) {
    const libraries = join(folder, "libraries");
    mkdirSync(libraries);
    return { ...fakeProgram(folder, compiling("exit 0")), platform: "linux-x64", libraries };
  }

  test("is compiled and told where they are", () => {
    using folder = temporaryDirectory();
    const given = installed(folder.path);
    expect(llamaCppCommand(given)).toEqual([given.program, given.libraries]);
  });

  test.each([
    ["system", { platform: "darwin-arm64" }, /linux-x64 is for Linux with glibc on x64, this is darwin-arm64$/],
    [
      "package",
      { libraries: "/no/such/folder" },
      /^run node scripts\/setup\.mjs --peers, which installs @node-llama-cpp/,
    ],
    ["compiler", { compiler: "/no/such/compiler" }, /install g\+\+ or set CXX$/],
  ])("or tells what %s it wants", (_name, part, message) => {
    using folder = temporaryDirectory();
    const given = { ...installed(folder.path), ...part };
    expect(llamaCppCommand(given)).toMatch(message);
    expect(existsSync(given.program)).toBe(false);
  });
});

const command = llamaCppCommand();

const options = typeof command === "string" ? leftOut("llama-cpp", command) : {};

describe("libraries that are not as the program expects them", options, () => {
  const program = command[0] as string;

  /** What the program says of a library with this source. */
  function refusal(folder: string, source: string): string {
    const [file, library] = [join(folder, "library.c"), join(folder, "libggml.so")];
    writeFileSync(file, source);
    expect(spawnSync(process.env.CXX ?? "g++", ["-x", "c", "-shared", "-fPIC", file, "-o", library]).status).toBe(0);
    const { status, stderr } = spawnSync(program, [folder, "--check"], { encoding: "utf8" });
    expect(status).toBe(1);
    return stderr;
  }

  test("are named", () => {
    using folder = temporaryDirectory();
    const { stderr } = spawnSync(program, [folder.path, "--check"], { encoding: "utf8" });
    expect(stderr).toBe(`${folder.path}: expected a library libggml.*\n`);
    expect(refusal(folder.path, "")).toBe("this ggml has no function ggml_version\n");
  });

  test("are compared with what it declares", () => {
    using folder = temporaryDirectory();
    const header = readFileSync(join(packageRoot(), "bench", "peers", "programs", "llama_cpp", "ggml.h"), "utf8");
    const names = new Set([...header.matchAll(/"(ggml_\w+)"/g)].map(([, name]) => name as string));
    const others = (...defined: string[]) =>
      [...names].filter((name) => !defined.includes(name)).map((name) => `void *${name}() { return 0; }`);
    const version = 'const char *ggml_version() { return "0.99"; }';
    expect(refusal(folder.path, [version, ...others("ggml_version")].join("\n"))).toBe(
      "ggml 0.99 is not as this program expects it: type 0 is none instead of f32\n",
    );
    const typeName = 'const char *ggml_type_name(int type) { return "f32"; }';
    const size = "long ggml_blck_size(int type) { return 4; } unsigned long ggml_type_size(int type) { return 18; }";
    const source = [
      version,
      typeName,
      size,
      ...others("ggml_version", "ggml_type_name", "ggml_blck_size", "ggml_type_size"),
    ];
    expect(refusal(folder.path, source.join("\n"))).toBe(
      "ggml 0.99 is not as this program expects it: f32 has blocks of 4 elements in 18 bytes\n",
    );
  });
});
