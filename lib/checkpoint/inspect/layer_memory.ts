import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { mostBitsPerWeight, weightFormat } from "../../core/formats/weight_formats.js";
import { shapeSize } from "../../core/tensors/shape.js";
import type { MoeLayerDescription } from "../../layer/description/config.js";
import { formatsOf, matrixRoles } from "../../layer/description/storage.js";
import { type LayerSource, mapWeights, piecesOf } from "../locate/locate_layer.js";
import { RangeCount } from "../locate/located_weight.js";

/** What a layer takes once it is loaded, and to load it; in bytes. */
export interface LayerMemory {
  /**
   * Bytes of all weights on the device. Layouts of devices may round sizes up, and take 5 % more than this for layers that are
   * not tiny; `reference` keeps everything in 64 bits. IQ1 to IQ3 of GGUF take less on CPUs with AVX-512 VBMI.
   */
  readonly bytes: number;
  /** How many of these belong to one routed expert: what a slot of `offload` takes. */
  readonly expertBytes: number;
  /** Read from the files. */
  readonly fileBytes: number;
}

/** What a layer that is stored as its description says will take. Reads headers only. @throws BAD_CHECKPOINT */
export async function layerMemory(source: LayerSource, description: MoeLayerDescription): Promise<LayerMemory> {
  let [bytes, expertBytes] = [0, 0];
  const first = description.bank.first;
  await mapWeights(source, async ({ shape, expert, role, limit }) => {
    const format = weightFormat(formatOf(description, role));
    const bits = limit === undefined ? mostBitsPerWeight(format, shape.at(-1) as number) : 32;
    const size = (shapeSize(shape) * bits) / 8;
    bytes += size;
    if (role.startsWith("experts.") && expert === first) expertBytes += size;
  });
  return { bytes: Math.ceil(bytes), expertBytes: Math.ceil(expertBytes), fileBytes: await bytesInFiles(source) };
}

/** The format of a role such as `experts.gate`. */
function formatOf({ formats, biasDType }: MoeLayerDescription, role: string): WeightFormatName {
  const [set, matrix] = role.split(".") as [string, string?];
  if (set === "selectionBias") return "f32";
  if (role.endsWith("Bias")) return biasDType;
  if (set === "sharedGate") return formats.sharedGate;
  if (set === "latentDown" || set === "latentUp") return formats[set] ?? formats.router;
  const known = matrixRoles.find((one) => one === matrix);
  return known === undefined ? formats.router : formatsOf(formats, set === "shared" ? "shared" : "experts")[known];
}

/** Bytes that loading reads, each once. */
export async function bytesInFiles(source: LayerSource): Promise<number> {
  const counted = new RangeCount();
  let bytes = 0;
  await mapWeights(source, async (wanted) => {
    for (const piece of piecesOf(wanted)) {
      for (const { byteLength } of counted.add(await source.locate(piece))) bytes += byteLength;
    }
  });
  return bytes;
}
