import { existsSync } from "node:fs";
import { join } from "node:path";
import { shapeOption } from "../../bench/shape_option.js";
import { packageRoot } from "../../core/addon/package_root.js";
import type { DeviceKind } from "../../core/device/backend.js";
import { type DeviceName, listDevices } from "../../devices.js";
import { listOption } from "../../terminal/option_values.js";
import { defineCommand } from "../command.js";
import { allPassed, runOnDevices } from "../layer_runs/run_on_devices.js";
import { checkDevices } from "../options/devices.js";
import { layerFile } from "../workloads/layer_file.js";
import { namedShape } from "../workloads/named_shape.js";
import { seededTokens } from "../workloads/tokens.js";

/** One of the tests' golden files, which is also part of the published package. */
const goldenFile = join(packageRoot(), "test", "golden", "mixtral", "mixtral_small.safetensors");
const shape = "OLMoE-1B-7B";

/** `demo`: a small layer with known results, then a full-size layer on the fast devices. */
export const demo = defineCommand({
  synopsis: "[--device NAME]",
  options: {
    device: {
      type: "string",
      multiple: true,
      value: "NAME",
      help: "devices beside reference and cpu, repeated or comma-separated (every GPU of cuda that is here)",
    },
  },
  async run(values, io) {
    const named = listOption("device", values.device) as DeviceName[];
    checkDevices(named);
    const available = listDevices().filter((device) => device.available);
    const here = (kind: DeviceKind) =>
      available.filter((device) => device.kind === kind).map(({ name }) => name as DeviceName);
    const devices = [...new Set([...here("reference"), ...here("cpu"), ...(named.length > 0 ? named : here("cuda"))])];
    const fast = devices.filter((name) => name !== "reference" && name !== "simt");

    const golden = await runOnDevices(await layerFile(goldenFile), { devices, dtype: "f32", repeat: 3 }, io);
    if (fast.length === 0) {
      io.stderr.write(`No device here is fast enough for ${shape}; see moe-kernels info.\n`);
      return 1;
    }
    const large = namedShape(shapeOption(shape), 0, seededTokens(256, 0));
    await runOnDevices(large, { devices: fast, dtype: "bf16", repeat: 3 }, io);
    const others = ["simt", "cuda"].filter((kind) => !devices.some((name) => name.startsWith(kind)));
    if (others.length > 0)
      io.stdout.write(`Other devices: ${demoCommand()} --device ${others.join(" or --device ")}\n`);
    return allPassed(golden) ? 0 : 1;
  },
});

/** In a clone, npm's script, which builds the devices that it is given. */
function demoCommand(): string {
  return existsSync(join(packageRoot(), "scripts", "run.mjs")) ? "npm run demo --" : "npx moe-kernels demo";
}
