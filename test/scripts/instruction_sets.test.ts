import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadNative } from "../../lib/core/addon/native.js";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { needs } from "../support/requirements.js";

const file = (name: string) => `native/cpu/isa/${name}.cc`;
const sources = ["amx", "avx2", "avx2_vnni", "avx512", "avx512_bf16", "avx512_vnni"].map(file);

/** The instruction sets that the build has, and what it says, where the assembler refuses files with such a text. */
function instructionSets(unknown: string, wanted = "all") {
  using directory = temporaryDirectory();
  const { path } = directory;
  const lines = [
    "cmake_minimum_required(VERSION 3.22)",
    "project(sets LANGUAGES CXX)",
    "set(MOE_X86 ON)",
    `set(MOE_INSTRUCTION_SETS ${wanted})`,
    `set(MOE_CPU_SOURCES ${sources.join(" ")})`,
    `include("${join(packageRoot(), "native", "cpu", "isa", "instruction_sets.cmake")}")`,
    "get_property(definitions SOURCE native/cpu/isa/isa.cc PROPERTY COMPILE_DEFINITIONS)",
    `message(STATUS "sets: \${MOE_CPU_SOURCES} definitions: \${definitions} end")`,
  ];
  writeFileSync(join(path, "CMakeLists.txt"), lines.join("\n"));
  const script = [
    "#!/bin/sh",
    'for file; do case "$file" in *.s) grep -q -- "$UNKNOWN" "$file" && exit 1;; esac; done',
    'exec as "$@"',
  ];
  writeFileSync(join(path, "as"), `${script.join("\n")}\n`, { mode: 0o755 });
  const { stdout, stderr } = spawnSync("cmake", ["-S", path, "-B", join(path, "out"), `-DCMAKE_CXX_FLAGS=-B${path}`], {
    encoding: "utf8",
    // Without -pipe, GCC gives the assembler files.
    env: { ...process.env, UNKNOWN: unknown },
  });
  const [, sets = "", definitions = ""] = /sets: (.*) definitions: (.*) end/.exec(stdout) ?? [];
  return { sets: sets.split(";"), definitions, warnings: stderr.replaceAll(/\s+/g, " ") };
}

describe("instruction sets", needs("x64", "a compiler with an assembler"), () => {
  test("are all built where the assembler knows them", () => {
    expect(instructionSets("no such instruction")).toEqual({ sets: sources, definitions: "", warnings: "" });
  });

  test.each([
    ["vpdpbusd", "MOE_NO_AVX2_VNNI", "avx2_vnni"],
    ["tdpbf16ps", "MOE_NO_AMX", "amx"],
  ])("without %s, one is left out with the reason", (unknown, definitions, missing) => {
    const built = instructionSets(unknown);
    expect(built).toMatchObject({ sets: sources.filter((source) => source !== file(missing)), definitions });
    expect(built.warnings).toContain(`the instruction set ${missing} is left out: the assembler does not know it.`);
  });

  test("of this processor are those of its fastest one", () => {
    const { sets, definitions } = instructionSets("no such instruction", "native");
    const [fastest = ""] = loadNative().cpuInfo().isas;
    // What each is made of: see instruction_sets() in native/cpu/isa/isa.cc.
    const made: Record<string, string[]> = {
      amx: ["amx", "avx512", "avx512_vnni"],
      avx512_bf16: ["avx512", "avx512_bf16", "avx512_vnni"],
      avx512_vnni: ["avx512", "avx512_vnni"],
      avx512: ["avx512"],
      avx2_vnni: ["avx2", "avx2_vnni"],
      avx2: ["avx2"],
      portable: [],
    };
    expect(sets.filter(Boolean)).toEqual(made[fastest]?.map(file));
    expect(definitions.split(";")).toHaveLength(sources.length - sets.filter(Boolean).length);
  });
});
