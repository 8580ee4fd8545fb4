// Compiles every CUDA kernel, including those of the tests, and prints the resources that it needs (registers, spills,
// shared memory) and its occupancy. Needs nvcc but no GPU. Compiler warnings, including spills and stack frames, are
// errors.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { renderTable } from "#lib/terminal/table.js";
import { root } from "./build_native.mjs";
import { readableKernels } from "./kernel_names.mjs";
import { readOptions, wrongOption } from "./options.mjs";

/** Limits of a multiprocessor: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". */
const architectures = {
  sm_80: { shared: 164 * 1024, warps: 64, blocks: 32 },
  sm_89: { shared: 100 * 1024, warps: 48, blocks: 24 },
  sm_90a: { shared: 228 * 1024, warps: 64, blocks: 32 },
};
const registersPerMultiprocessor = 65_536;
/** Shared memory that the system reserves for every block. */
const reservedShared = 1024;

const native = join(root, "native");
/** The kernels of the tests. */
const extension = join(root, "test", "native", "extension", "gpu");

const usage = `Usage: npm run kernels -- [--source TEXT] [--json] [ARCHITECTURE...]

Compiles every CUDA kernel for ${Object.keys(architectures).join(", ")}, or the named ones, and prints what it needs of a GPU.
Fails if one spills registers, or if ptxas makes products of wgmma wait or orders their registers itself.
--source compiles only files whose path contains TEXT. Needs nvcc.`;
const { values, positionals } = readOptions(usage, {
  options: { source: { type: "string", default: "" }, json: { type: "boolean" } },
  allowPositionals: true,
});
const wanted = positionals.length > 0 ? positionals : Object.keys(architectures);
for (const name of wanted) {
  if (!Object.hasOwn(architectures, name)) {
    wrongOption(usage, `expected ${Object.keys(architectures).join(" or ")}, got ${name}`);
  }
}
let sharedOfGemms;
const work = mkdtempSync(join(tmpdir(), "moe-kernels-"));
try {
  const rows = kernelSources().flatMap(compile);
  rows.sort((a, b) => a.kernel.localeCompare(b.kernel) || a.architecture.localeCompare(b.architecture));
  if (values.json) console.log(JSON.stringify(rows, null, 2));
  else print(rows);
} finally {
  rmSync(work, { recursive: true, force: true });
}

function kernelSources() {
  const files = (folder) => readdirSync(folder, { recursive: true }).map((path) => join(folder, path));
  const sources = [...files(join(native, "gpu")), ...files(extension)].filter(
    (path) => path.endsWith(".cu") && !path.startsWith(join(native, "gpu", "target")) && path.includes(values.source),
  );
  if (sources.length === 0) fail(`--source: no kernel's file contains "${values.source}"`);
  return sources;
}

/**
 * The kernels of one source. It is compiled to an object, not only to PTX, because some errors show only in the host
 * code that nvcc generates around the kernels.
 */
function compile(source) {
  const folder = mkdtempSync(join(work, "source-"));
  const include = [native, join(native, "gpu", "target", "cuda"), join(root, "test", "native")].map(
    (path) => `-I${path}`,
  );
  const log = run("nvcc", [
    "-std=c++20",
    "-O3",
    "-fmad=false",
    "-DMOE_EXTENSION",
    "-Werror",
    "all-warnings",
    "-Xptxas",
    "-v,-warn-spills,-warn-lmem-usage,-Werror",
    ...wanted.map((name) => `-gencode=arch=${name.replace("sm_", "compute_")},code=${name}`),
    ...include,
    "-keep",
    "-keep-dir",
    folder,
    "-c",
    "-o",
    join(folder, "object.o"),
    source,
  ]);
  // What ptxas does of its own where registers of wgmma are not in order. Other compilers may do something else, or nothing.
  const repair = log.match(
    /(wgmma\.mma_async instructions are serialized .*?|warpgroup\.(?:arrive|wait) is injected .*?) (?:in|for)(?: the)? function '(.+?)'/,
  );
  if (repair) {
    fail(`${readableKernels([repair[2]])[0]}: expected products of wgmma in the background whose registers the source orders, but
${repair[1]}. See wgmma_keep in native/gpu/target/cuda/ptx/wgmma.cuh.`);
  }
  const ptx = readdirSync(folder)
    .filter((name) => name.endsWith(".ptx"))
    .map((name) => readFileSync(join(folder, name), "utf8"));
  const entries = [
    ...log.matchAll(/Compiling entry function '(\S+)' for '(\S+)'[\s\S]*?(?=Compiling entry function|$)/g),
  ];
  const names = readableKernels(entries.map(([, symbol]) => symbol));
  return entries.map(([text, symbol, architecture], index) => {
    const kernel = names[index];
    const number = (pattern) => Number(text.match(pattern)?.[1] ?? 0);
    const registers = number(/Used (\d+) registers/);
    const dynamic = kernel.startsWith("gemm_") ? dynamicShared()[tileOf(kernel)] : 0;
    if (dynamic === undefined) fail(`${kernel} has no tile of the plans' tables`);
    const shared = number(/(\d+) bytes smem/) + dynamic;
    const bounds = new RegExp(`\\.entry ${symbol}\\([^{]*?\\.maxntid (\\d+)`);
    const threads = Number(ptx.map((text) => text.match(bounds)?.[1]).find((found) => found !== undefined));
    if (!threads) fail(`${kernel} has no __launch_bounds__`);
    return {
      kernel,
      architecture,
      threads,
      registers,
      spills: number(/(\d+) bytes spill stores/) + number(/(\d+) bytes spill loads/),
      shared,
      ...occupancy(architectures[architecture], threads, registers, shared),
    };
  });
}

/** Blocks per multiprocessor, and the share of its warps that they fill. */
function occupancy(limits, threads, registers, shared) {
  const warps = Math.ceil(threads / 32);
  // Registers are allocated to a warp in units of 256.
  const registersPerWarp = Math.ceil((registers * 32) / 256) * 256;
  const blocks = Math.min(
    limits.blocks,
    Math.floor(limits.warps / warps),
    Math.floor(Math.floor(registersPerMultiprocessor / registersPerWarp) / warps),
    Math.floor(limits.shared / (shared + reservedShared)),
  );
  return { blocks, occupancy: (blocks * warps) / limits.warps };
}

/** What {@link readDynamicShared} returns; its program is compiled only where there is such a kernel. */
function dynamicShared() {
  sharedOfGemms ??= readDynamicShared();
  return sharedOfGemms;
}

/** Dynamic shared memory of the GEMM kernels, by family, codes and tile, as the plans compute it. */
function readDynamicShared() {
  const program = join(work, "shared");
  writeFileSync(
    `${program}.cc`,
    `#include <cstdio>
#include <string>
#include "gpu/gemm/kernels.h"
int main() {
  for (const moe::gpu::GemmKernel* kernel : moe::gpu::gemm_kernels()) {
    const std::string name = kernel->name;
    const size_t quantized = name.find("mma_quantized");
    const std::string family = name.substr(0, quantized == std::string::npos ? name.find('_') : quantized + 13);
    const std::string codes = kernel->takes_codes() ? " " + std::string(name_of(kernel->codes)) : "";
    for (size_t tile = 0; tile < kernel->tiles.size(); ++tile) {
      const size_t bytes = kernel->shared_bytes(kernel->tiles[tile], *kernel->formats.example);
      printf("%s%s %zu\\t%zu\\n", family.c_str(), codes.c_str(), tile, bytes);
    }
  }
}
`,
  );
  const plans = ["gemm", "plan"].flatMap((folder) => {
    const path = join(native, "gpu", folder);
    return readdirSync(path)
      .filter((name) => name.endsWith(".cc"))
      .map((name) => join(path, name));
  });
  run(process.env.CXX ?? "c++", ["-std=c++20", `-I${native}`, `${program}.cc`, ...plans, "-o", program]);
  const lines = run(program, []).trim().split("\n");
  return Object.fromEntries(lines.map((line) => line.split("\t")).map(([kernel, bytes]) => [kernel, Number(bytes)]));
}

/** Family, codes and tile index of a GEMM kernel, as in readDynamicShared(). */
function tileOf(kernel) {
  return kernel.replace(/^gemm_(\w+)_kernel<(int8|fp8)?.*, (\d+)>$/, (_, family, codes, tile) =>
    [family, codes, tile].filter((part) => part !== undefined).join(" "),
  );
}

function print(rows) {
  const number = (heading) => ({ heading, align: "right" });
  const columns = [
    { heading: "kernel" },
    { heading: "for" },
    ...["threads", "registers", "spills", "shared", "blocks", "occupancy"].map(number),
  ];
  const cells = rows.map((row) => [
    row.kernel,
    row.architecture,
    ...[row.threads, row.registers, row.spills, row.shared, row.blocks].map(String),
    `${Math.round(row.occupancy * 100)}%`,
  ]);
  process.stdout.write(renderTable(columns, cells));
  console.log(`
spills: bytes stored to and loaded from local memory. shared: bytes per block, without the counts (experts x warps x 4)
of the sort kernels. blocks: per multiprocessor, for the kernel's largest block.`);
}

/** Runs a tool and returns its output; any failure ends the script. */
function run(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", maxBuffer: 2 ** 26 });
  if (error || status !== 0)
    fail(`${command} ${args.at(-1)}: ${error?.message ?? `exit code ${status}`}\n${stdout}${stderr}`);
  return stdout + stderr;
}

function fail(reason) {
  rmSync(work, { recursive: true, force: true });
  console.error(`kernels: ${reason}`);
  process.exit(1);
}
