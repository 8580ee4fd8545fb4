import { chmodSync, existsSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { onednnCommand } from "../../bench/peers/onednn.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";

describe.skipIf(process.platform === "win32")("the loop over oneDNN's ukernels is compiled if need be", () => {
  const cpuInfo = "processor : 0\nflags\t\t: fpu amx_tile amx_bf16 amx_int8 avx512_bf16\n";

  /** A folder with a source and a compiler that runs this shell script. */
  function setup(folder: string, script: string) {
    const [compiler, source] = [join(folder, "compiler"), join(folder, "onednn_peer.cc")];
    writeFileSync(compiler, `#!/bin/sh\n${script}`);
    chmodSync(compiler, 0o755);
    writeFileSync(source, "");
    return { compiler, sources: folder, program: join(folder, "build", "onednn_peer"), cpuInfo };
  }
  /** Writes a program whose --check runs `check`, and a line to a log; the output is the sixth argument. */
  const compiling = (check: string) =>
    `echo compiled >> "$(dirname "$6")/log"\nprintf '#!/bin/sh\\n%s\\n' '${check}' > "$6"\nchmod +x "$6"\n`;

  test("once, and again when a source is newer", () => {
    using folder = temporaryDirectory();
    const given = setup(folder.path, compiling("exit 0"));
    const log = () => readFileSync(join(folder.path, "build", "log"), "utf8").split("\n").length - 1;
    for (const file of [given.compiler, join(folder.path, "onednn_peer.cc")]) utimesSync(file, 1, 1);
    utimesSync(folder.path, 1, 1);
    expect(onednnCommand(given)).toEqual([given.program]);
    utimesSync(join(folder.path, "build"), 1, 1);
    expect(onednnCommand(given)).toEqual([given.program]);
    expect(log()).toBe(1);
    const later = Date.now() / 1000 + 100;
    utimesSync(join(folder.path, "onednn_peer.cc"), later, later);
    expect(onednnCommand(given)).toEqual([given.program]);
    expect(log()).toBe(2);
  });

  test.each([
    ["CPU", { cpuInfo: "flags : fpu avx2 avx512_bf16" }, /CPU with AMX; there is no amx_tile, amx_bf16, amx_int8$/],
    ["system", { cpuInfo: undefined }, /needs Linux on a CPU with AMX/],
    ["compiler", { compiler: "/no/such/compiler" }, /cannot be started \(.*ENOENT\): install g\+\+ or set CXX$/],
  ])("or tells what %s it wants", (_name, part, message) => {
    using folder = temporaryDirectory();
    const given = { ...setup(folder.path, "exit 1"), ...part };
    expect(onednnCommand(given)).toMatch(message);
    expect(existsSync(given.program)).toBe(false);
  });

  test("or tells how to install the library", () => {
    using folder = temporaryDirectory();
    const error = "x.h:9:10: fatal error: oneapi/dnnl/dnnl_ukernel.hpp: No such file or directory";
    const command = onednnCommand(
      setup(folder.path, `echo 'In file included from y:' >&2; echo '${error}' >&2; exit 1`),
    );
    expect(command).toContain("apt-get install libdnnl-dev");
    expect(command).toContain(error);
  });

  test("or tells why its check failed", () => {
    using folder = temporaryDirectory();
    const given = setup(folder.path, compiling("echo no tiles here >&2; exit 1"));
    expect(onednnCommand(given)).toBe("its check failed: no tiles here");
  });
});
