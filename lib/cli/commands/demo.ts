import { join } from "node:path";
import { shapeOption } from "../../bench/shape_option.js";
import { packageRoot } from "../../core/addon/package_root.js";
import { type DeviceName, listDevices } from "../../devices.js";
import { defineCommand } from "../command.js";
import { allPassed, runOnDevices } from "../layer_runs/run_on_devices.js";
import { layerFile } from "../workloads/layer_file.js";
import { namedShape } from "../workloads/named_shape.js";
import { seededTokens } from "../workloads/tokens.js";

/** One of the tests' golden files, which is also part of the published package. */
const goldenFile = join(packageRoot(), "test", "golden", "mixtral", "mixtral_small.safetensors");
const shape = "OLMoE-1B-7B";

/** `demo`: a small layer with known results on every device, then a full-size layer on the fast devices. */
export const demo = defineCommand({
  synopsis: "",
  options: {},
  async run(_values, io) {
    const available = listDevices().filter((device) => device.available);
    const all = available.map(({ name }) => name as DeviceName);
    const fast = available
      .filter(({ kind }) => kind === "cpu" || kind === "cuda")
      .map(({ name }) => name as DeviceName);

    const golden = await runOnDevices(await layerFile(goldenFile), { devices: all, dtype: "f32", repeat: 3 }, io);
    if (fast.length === 0) {
      io.stderr.write(`No device here is fast enough for ${shape}; see moe-kernels info.\n`);
      return 1;
    }
    const large = namedShape(shapeOption(shape), 0, seededTokens(256, 0));
    await runOnDevices(large, { devices: fast, dtype: "bf16", repeat: 3 }, io);
    return allPassed(golden) ? 0 : 1;
  },
});
