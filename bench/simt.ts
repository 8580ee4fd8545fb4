import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "#lib/core/addon/package_root.js";

// npm run bench:simt: the speed of the simt runtime on one CPU core.

const program = join(packageRoot(), "build", "native", "simt", "test", "moe_simt_benchmark");

if (existsSync(program)) {
  const { switchesPerSecond, mmaPerSecond } = JSON.parse(execFileSync(program, { encoding: "utf8" })) as {
    /** Switches between CUDA threads. */
    readonly switchesPerSecond: number;
    /** Warp-wide mma.m16n8k16 products of bfloat16. */
    readonly mmaPerSecond: number;
  };
  const millions = (perSecond: number): string => (perSecond / 1e6).toPrecision(3);
  process.stdout.write(
    `simt, one core: ${millions(switchesPerSecond)} M thread switches/s, ${millions(mmaPerSecond)} M mma/s\n`,
  );
} else {
  process.stderr.write(`bench:simt: expected ${program}, which a build with the simt device and the tests makes\n`);
  process.exitCode = 1;
}
