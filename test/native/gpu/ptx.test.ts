import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../../lib/core/addon/package_root.js";

const target = join(packageRoot(), "native", "gpu", "target");
const headers = (device: string) => readdirSync(join(target, device, "ptx")).filter((name) => name.endsWith(".cuh"));

/** The functions in namespace ptx that a header declares for kernels. */
function instructions(device: string, header: string): string[] {
  const text = readFileSync(join(target, device, "ptx", header), "utf8");
  const inPtx = text.slice(text.search(/^namespace (\S+::)?ptx \{/m));
  const names = inPtx.matchAll(/^(?:inline |template <[^>]*>\n|__device__ __forceinline__ )*(?:\w+[*&]? )+(\w+)\(/gm);
  return [...new Set([...names].map(([, name]) => name as string))].sort();
}

test("kernels of wgmma trap where it is missing", () => {
  // A driver may compile the PTX for 8.0 for a Hopper GPU. Kernels that did nothing would leave results as they were.
  const folder = join(packageRoot(), "native", "gpu", "gemm");
  const texts = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"));
  const branches = texts.flatMap((text) => text.split("if constexpr (ptx::kHasWgmma) {").slice(1));
  expect(branches).toHaveLength(3);
  for (const branch of branches)
    expect(branch).toMatch(/^(?:\n {4}.*)+\n {2}\} else \{\n {4}ptx::wgmma_fence\(\);\n {2}\}\n\}/);
});

test("kernels find the same headers for GPUs and for simt", () => {
  expect(headers("cuda")).toEqual(headers("simt"));
});

test.each(headers("simt").filter((name) => !["device.cuh", "launch.cuh"].includes(name)))(
  "%s has the same instructions for both",
  (header) => {
    expect(instructions("simt", header).length).toBeGreaterThan(1);
    expect(instructions("cuda", header)).toEqual(instructions("simt", header));
  },
);
