import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { onednnCommand } from "../../bench/peers/onednn.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { compilations, compiling, fakeProgram } from "./support/fake_compiler.js";

describe("the loop over oneDNN's ukernels", () => {
  const cpuInfo = "processor : 0\nflags\t\t: fpu amx_tile amx_bf16 amx_int8 avx512_bf16\n";

  test("is compiled for AMX", () => {
    using folder = temporaryDirectory();
    const given = { ...fakeProgram(folder.path, compiling("exit 0")), cpuInfo };
    expect(onednnCommand(given)).toEqual([given.program]);
    expect(compilations(folder.path)).toEqual([expect.stringMatching(/ -march=sapphirerapids -ldnnl -pthread$/)]);
  });

  test.each([
    ["CPU", "flags : fpu avx2 avx512_bf16", /CPU with AMX; there is no amx_tile, amx_bf16, amx_int8$/],
    ["system", undefined, /needs Linux on a CPU with AMX/],
  ])("or tells what %s it wants", (_name, cpuInfo, message) => {
    using folder = temporaryDirectory();
    const given = { ...fakeProgram(folder.path, compiling("exit 0")), cpuInfo };
    expect(onednnCommand(given)).toMatch(message);
    expect(existsSync(given.program)).toBe(false);
  });

  test("or tells how to install the library", () => {
    using folder = temporaryDirectory();
    const error = "x.h:9:10: fatal error: oneapi/dnnl/dnnl_ukernel.hpp: No such file or directory";
    const command = onednnCommand({ ...fakeProgram(folder.path, `echo '${error}' >&2; exit 1`), cpuInfo });
    expect(command).toContain("apt-get install libdnnl-dev");
    expect(command).toContain(error);
  });
});
