import { join } from "node:path";
import { packageRoot } from "#lib/core/addon/package_root.js";

/** A program that installs packages. */
export interface Manager {
  readonly name: string;
  /** Arguments of `node` or `npm` that install a package into the working directory, with caches in a folder. */
  install(packageName: string, registry: string, caches: string): readonly [command: string, ...args: string[]];
}

export const managers: readonly Manager[] = [
  {
    name: "npm",
    install: (packageName, registry, caches) => [
      "npm",
      ...["install", packageName, "--no-audit", "--no-fund", "--no-update-notifier"],
      ...["--registry", registry, "--cache", join(caches, "npm")],
    ],
  },
  {
    name: "pnpm",
    install: (packageName, registry, caches) => [
      process.execPath,
      join(packageRoot(), "node_modules", "pnpm", "bin", "pnpm.cjs"),
      ...["add", packageName, "--registry", registry],
      ...["--store-dir", join(caches, "pnpm store"), "--cache-dir", join(caches, "pnpm cache")],
    ],
  },
];

/** A program that opens the `cpu` device and prints the first value of a forward: 2 of 2 experts, silu(1) * 1 in all. */
export const forwardProgram = `
import { MoeLayer, openDevice } from "moe-kernels";
const device = openDevice("cpu");
const [hiddenSize, intermediateSize, numExperts] = [4, 8, 2];
const filled = (value, ...shape) => device.tensor(new Float32Array(shape.reduce((a, b) => a * b)).fill(value), shape);
const layer = MoeLayer.create({
  device, hiddenSize, intermediateSize, numExperts, topK: 2, normalize: true,
  router: filled(0, numExperts, hiddenSize),
  experts: {
    gate: filled(0.25, numExperts, intermediateSize, hiddenSize),
    up: filled(0.25, numExperts, intermediateSize, hiddenSize),
    down: filled(0.125, numExperts, hiddenSize, intermediateSize),
  },
});
const [value] = await layer.forward(filled(1, 3, hiddenSize)).data();
console.log(value.toFixed(6));
`;
/** What {@link forwardProgram} prints. */
export const forwardOutput = `${(1 / (1 + Math.exp(-1))).toFixed(6)}\n`;
