import type { ListedCommand } from "./command.js";

/** The commands in the order of the help. */
export const commandList: readonly ListedCommand[] = [
  {
    name: "info",
    summary: "show the version, the devices and why each is or is not available, the CPU and the build",
    load: async () => (await import("./commands/info.js")).info,
  },
  {
    name: "inspect",
    summary:
      "show the MoE layers of a model directory, GGUF file or saved layer: formula, sizes, storage, memory, work per token",
    load: async () => (await import("./commands/inspect.js")).inspect,
  },
  {
    name: "run",
    summary: "run layers: routing, time of every stage, tokens per expert, comparison with expected results",
    load: async () => (await import("./commands/run.js")).runLayer,
  },
  {
    name: "quantize",
    summary:
      "quantise the experts of a model directory and write another, as compressed-tensors or MLX does, or a GGUF file",
    load: async () => (await import("./commands/quantize.js")).quantizeModel,
  },
  {
    name: "serve",
    summary: "serve experts of a model's layers to other processes, which use them by moe-kernels/parallel",
    load: async () => (await import("./commands/serve.js")).serve,
  },
  {
    name: "verify",
    summary: "run the whole case table on this machine's devices and compare the results with the reference",
    load: async () => (await import("./commands/verify.js")).verify,
  },
  {
    name: "bench",
    summary: "time layers and every operator, beside this machine's ceilings and implementations from outside",
    load: async () => (await import("./commands/bench.js")).bench,
  },
  {
    name: "bench compare",
    summary: "compare two files that bench --json wrote: what became faster or slower",
    load: async () => (await import("./commands/bench_compare.js")).benchCompare,
  },
  {
    name: "offload-trace",
    summary:
      "replay recorded routings against the policies of offload: hit rate by number of slots, of layers together",
    load: async () => (await import("./commands/offload_trace.js")).offloadTrace,
  },
  {
    name: "demo",
    summary: "run a small Mixtral layer with known results on every device, then a full-size OLMoE layer",
    load: async () => (await import("./commands/demo.js")).demo,
  },
];
