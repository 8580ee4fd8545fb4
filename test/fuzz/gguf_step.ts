import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseHeader } from "../../lib/checkpoint/gguf/header.js";
import { SplitGguf } from "../../lib/checkpoint/gguf/index.js";
import { type Device, MoeLayer } from "../../lib/index.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { type LayerType, randomLayer } from "../checkpoint/support/gguf_layer.js";
import { rawGguf } from "../support/gguf.js";
import { mutated } from "../support/mutations.js";
import type { Draw } from "./draw.js";
import { Failure, type Outcome, refusedOr, type Step } from "./step.js";

const types: readonly LayerType[] = ["F32", "F16", "Q4_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4", "NVFP4"];
const tokens = 3;

/** A GGUF file of a small layer, damaged in a few places; it is written to `folder`. */
export function ggufStep(draw: Draw, folder: string): Step {
  const seed = String(draw.integer(0, 2 ** 32));
  const shared = draw.chance(0.3) ? 64 : 0;
  const layer = { hidden: 64, inner: 64, experts: 2, gate: draw.pick(types), down: draw.pick(types), shared };
  const source = `GGUF file of ${JSON.stringify(layer)}, damaged with seed ${seed}`;
  const run = async (device: Device): Promise<Outcome> => {
    const whole = rawGguf(randomLayer(new Random(seed), layer).file);
    // Most damage is to the header, which is a small part of the file.
    const header = Math.min(whole.length, 1024);
    const bytes =
      Number(seed) % 4 === 0
        ? mutated(whole, seed)
        : Buffer.concat([mutated(whole.subarray(0, header), seed), whole.subarray(header)]);
    mkdirSync(folder, { recursive: true });
    const path = join(folder, "model.gguf");
    writeFileSync(path, bytes);
    const parsed = await refusedOr(async () => parseHeader("in memory", bytes) && "accepted");
    const read = await refusedOr(() => readAll(path));
    // Only a split file may be accepted alone and refused with the others, which are not there.
    if (parsed !== read && !bytes.includes("split.")) {
      throw new Failure(`in memory the file is ${parsed}, on disk ${read}`);
    }
    return read === "refused" ? read : await refusedOr(() => forward(path, device, layer.hidden));
  };
  return { source, run };
}

async function readAll(path: string): Promise<Outcome> {
  await using file = await SplitGguf.open(path);
  for (const name of file.names) await file.fileOf(name).read(name);
  return "accepted";
}

async function forward(path: string, device: Device, hidden: number): Promise<Outcome> {
  using layer = await MoeLayer.load(path, { layer: 0, device });
  if (layer.description.hiddenSize !== hidden) throw new Failure("damage changed the hidden size");
  using x = device.tensor(new Random("tokens").normals(tokens * hidden), [tokens, hidden]);
  using y = layer.forward(x);
  await y.data();
  return "accepted";
}
