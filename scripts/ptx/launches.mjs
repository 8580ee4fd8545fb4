// What the PTX machine writes to the file that MOE_PTX_KERNELS names.
import { readableKernels } from "../kernel_names.mjs";

/** How many kernels there are, and the names of those that no process has launched. */
export function findUnlaunched(text) {
  const lines = new Set(text.split("\n"));
  const all = [...lines].filter((line) => line.startsWith("of ")).map((line) => line.slice("of ".length));
  const never = all.filter((kernel) => !lines.has(kernel));
  return { kernels: all.length, never: readableKernels(never).sort() };
}
