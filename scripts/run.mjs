// Runs a command of the command line in a clone, after building what the devices of its --device option need.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { root } from "./build_native.mjs";

const [command, ...args] = process.argv.slice(2);
const devices = args.flatMap((arg, index) => {
  if (arg === "--device") return (args[index + 1] ?? "").split(",");
  return arg.startsWith("--device=") ? arg.slice("--device=".length).split(",") : [];
});
const libraries = ["simt", "cuda"].filter((kind) => devices.some((device) => device.split(":")[0] === kind));
const steps = [
  ["scripts/setup.mjs", "--only", ["cpu", ...libraries].join(",")],
  ["dist/cli/main.js", command, ...args],
];
for (const [script, ...rest] of steps) {
  const { status } = spawnSync(process.execPath, [join(root, script), ...rest], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
