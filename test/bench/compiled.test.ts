import { existsSync, readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { compiledCommand } from "../../bench/peers/compiled.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { compilations, compiling, fakeProgram } from "./support/fake_compiler.js";

describe("a peer's program is compiled", () => {
  test("once, and again when a source is newer", () => {
    using folder = temporaryDirectory();
    const given = fakeProgram(folder.path, compiling("exit 0"));
    const options = ["-pthread"];
    for (const name of ["compiler", "main.cc"]) utimesSync(join(folder.path, name), 1, 1);
    expect(compiledCommand(given, { options, args: ["first"] })).toEqual([given.program, "first"]);
    utimesSync(join(folder.path, "build"), 1, 1);
    expect(compiledCommand(given, { options })).toEqual([given.program]);
    expect(compilations(folder.path)).toHaveLength(1);
    expect(compilations(folder.path)[0]).toMatch(/^-std=c\+\+20 -O3 \S+main\.cc -o \S+ -pthread$/);
    const later = Date.now() / 1000 + 100;
    utimesSync(join(folder.path, "main.cc"), later, later);
    expect(compiledCommand(given, { options })).toEqual([given.program]);
    expect(compilations(folder.path)).toHaveLength(2);
    expect(readdirSync(join(folder.path, "build")).sort()).toEqual(["log", "program"]);
  });

  test("or its compiler is missing", () => {
    using folder = temporaryDirectory();
    const given = { ...fakeProgram(folder.path, "exit 1"), compiler: "/no/such/compiler" };
    expect(compiledCommand(given, { options: [] })).toMatch(
      /^its compiler cannot be started \(.*ENOENT\): install g\+\+ or set CXX$/,
    );
    expect(existsSync(given.program)).toBe(false);
  });

  test("or it fails, for a reason and with what it needs", () => {
    using folder = temporaryDirectory();
    const script = "echo 'In file included from y:' >&2; echo 'x.h:9:10: fatal error: z.h: No such file' >&2; exit 1";
    const given = fakeProgram(folder.path, script);
    const failure = "compiling it failed: x.h:9:10: fatal error: z.h: No such file";
    expect(compiledCommand(given, { options: [] })).toBe(failure);
    expect(compiledCommand(given, { options: [], needs: "a library" })).toBe(`it needs a library; ${failure}`);
  });

  test("and checked with its arguments", () => {
    using folder = temporaryDirectory();
    const given = fakeProgram(folder.path, compiling('echo "no $1 $2" >&2; exit 1'));
    expect(compiledCommand(given, { options: [], args: ["tiles"] })).toBe("its check failed: no tiles --check");
  });
});
