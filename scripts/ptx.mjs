// Builds the addon with nvcc's code for the cuda device as PTX and runs it on the CPU: test/native/ptx_machine. Any report
// of that machine is a failure. At the end it says which kernels no test has launched.
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { buildNative, findTools, root } from "./build_native.mjs";
import { wrongOption } from "./options.mjs";
import { findUnlaunched } from "./ptx/launches.mjs";
import { addonIn, cleanWith, listSteps, parseOptions, runSteps, verifySteps } from "./steps.mjs";

const out = "build-ptx";
const config = "Release";
const addon = addonIn(out, config);
/** Where the machine writes down which kernels there are, and which were launched. */
const launches = join(root, out, "kernels");
const capabilities = ["80", "86", "89", "90"];

/** Tests that open every device. */
const testFiles = [
  "test/native/gpu",
  "test/core",
  "test/operators",
  "test/layer",
  "test/optimizers",
  "test/statistics",
  "test/testing",
  "test/golden",
  "test/extension",
  "test/hostile",
  "test/process/process",
];

/** Tests whose work is on several streams, and the streams that may be ahead of the others. */
const overlapping = ["test/layer/offload"];
const timings = ["first_early", "second_early", "third_early"].map((timing) => ({ MOE_PTX_TIMING: timing }));

const usage = `Usage: npm run test:ptx -- [--list] [--capability LIST] [FILE...]

Compiles the CUDA kernels with nvcc and runs the PTX on the CPU: verify and the tests that open every device, where this
GPU is cuda:0; or only the tests whose path contains FILE. --capability LIST: the GPU's compute capability, one or several
of ${capabilities.join(", ")}; without it verify and the tests of the kernels run as 80, 89 and 90, and all others as 90.
--list only prints the steps. Needs nvcc.`;
const { list, positionals, capability } = parseOptions(usage, {
  positionals: true,
  options: { capability: { type: "string" } },
});
const chosen = capability?.split(",");
for (const name of chosen ?? []) {
  if (!capabilities.includes(name)) {
    wrongOption(usage, `--capability: expected some of ${capabilities.join(", ")}, got ${name}`);
  }
}
const steps =
  positionals.length > 0
    ? tests({ files: positionals })
    : [
        ...tests({ program: "test/native/cuda_device/moe_cuda_device_tests" }),
        ...verifications(),
        ...tests({ files: testFiles }),
        ...tests({ files: ["test/native/gpu"], gpus: chosen === undefined ? ["80", "89"] : [] }),
        ...timings.flatMap((set) => tests({ files: overlapping, set })),
      ];
if (list) {
  listSteps(steps);
  process.exit();
}
build();
rmSync(launches, { force: true });
await runSteps(steps);
reportKernels({ named: positionals.length === 0 });

function build() {
  if (findTools().nvcc === undefined) {
    fail(`expected nvcc on the PATH, in CUDACXX or in the folder CUDA_HOME, and found none: install the CUDA toolkit 12.4 or later
from https://developer.nvidia.com/cuda-downloads; no GPU or driver is needed`);
  }
  if (process.platform !== "linux") fail(`expected Linux, which the simulated GPUs need, got ${process.platform}`);
  console.log(`ptx: builds into ${out}; where nothing is built yet, this takes about 20 minutes on two cores`);
  const failure = buildNative({
    out,
    config,
    defines: {
      MOE_PTX_MACHINE: "ON",
      MOE_CUDA: "ON",
      MOE_BUILD_TESTS: "ON",
      MOE_SIMT: "ON",
      // The usual build stops at them. Spills are warnings of ptxas, which does not run here.
      MOE_WARNINGS_ARE_ERRORS: "OFF",
    },
  });
  if (failure) fail(failure);
}

function verifications() {
  const runs = (chosen ?? ["80", "89", "90"]).flatMap((gpu) =>
    ["late", "early"].map((background, index) => ({
      args: ["--device", "cuda"],
      set: { MOE_PTX_CAPABILITY: gpu, MOE_PTX_ASYNC: background, MOE_PTX_TURNS: String(index + 1) },
    })),
  );
  return verifySteps(addon, runs, () => ({ MOE_PTX_KERNELS: launches }));
}

/** Steps that run tests, of Vitest or a program of the build, on each GPU. */
function tests({ program, files = [], gpus = chosen ?? ["90"], set = {} }) {
  const [name, command, args] = program
    ? [program, join(root, out, program), []]
    : [`vitest run ${files.join(" ")}`, process.execPath, ["node_modules/vitest/vitest.mjs", "run", ...files]];
  const env = () => ({ MOE_PTX_KERNELS: launches, MOE_KERNELS_BINARY: addon });
  return gpus.map((gpu) => cleanWith({ MOE_PTX_CAPABILITY: gpu, ...set }, name, command, args, env, { live: true }));
}

/** Prints how many kernels ran and, if `named`, which did not. */
function reportKernels({ named }) {
  const { kernels, never } = findUnlaunched(existsSync(launches) ? readFileSync(launches, "utf8") : "");
  const list = named && never.length > 0;
  console.log(`${kernels - never.length} of ${kernels} kernels ran${list ? "; these did not:" : ""}`);
  if (list) for (const kernel of never) console.log(`  ${kernel}`);
}

function fail(reason) {
  console.error(`ptx: ${reason}`);
  process.exit(1);
}
