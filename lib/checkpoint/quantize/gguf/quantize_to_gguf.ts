import { createHash } from "node:crypto";
import { basename, resolve } from "node:path";
import { packageVersion } from "../../../core/addon/version.js";
import { unexpected } from "../../../core/errors.js";
import { withPlaceInMemoryErrors } from "../../../core/tensors/allocated.js";
import type { FloatDType } from "../../../core/tensors/dtype.js";
import { decodeHalves } from "../../../core/tensors/half_arrays.js";
import type { Tensor } from "../../../core/tensors/tensor.js";
import { quantizableFormat } from "../../../operators/formats/quantize.js";
import { type BlockWeight, toBlocks } from "../../gguf/blocks/convert.js";
import { hasSixBitScales, withSixBitScales } from "../../gguf/blocks/six_bit_scales.js";
import { layOutGguf } from "../../gguf/write/header.js";
import { checkLayers } from "../../layers_with_experts.js";
import { memoryFor, namingWeight, placeOf } from "../../locate/located_weight.js";
import type { SafetensorsTensor } from "../../safetensors/file.js";
import { tensorPlace } from "../../safetensors/header.js";
import { chunkBytes } from "../../safetensors/regular_file.js";
import { ShardedCheckpoint } from "../../safetensors/sharded_checkpoint.js";
import { asBytes, type Elements, transpose, zerosLike } from "../../schemes/bits.js";
import type { QuantizeCheckpointOptions, QuantizedCheckpoint } from "../quantize_checkpoint.js";
import { type MatrixError, quantizeMatrix } from "../quantize_matrix.js";
import { checkFloatModel, readSource, sourceOf } from "../source.js";
import { StoredMatrices } from "../stored_matrices.js";
import { PartialFile } from "./partial_file.js";
import { type Content, ggufTypeOfFormat, type PlannedTensor, planGguf, type WeightPart } from "./plan.js";

/** How far a file is: the tensors that are written, and the errors of their matrices. */
interface Progress {
  readonly tensors: number;
  readonly errors: readonly MatrixError[];
}

/**
 * Quantises the experts' matrices of a Hugging Face model directory, and writes the model as one GGUF file: all weights and
 * the configuration and, where llama.cpp has it, the tokenizer. Other tensors keep their dtype; vectors and routers become float32, as llama.cpp's
 * converter writes them. Only single matrices are in memory, and of other tensors a few megabytes.
 * @throws UNSUPPORTED_DTYPE for a format that GGUF does not have; UNSUPPORTED_OPERATION for families, formulas and tensors
 * that are not written, and for columns that are no whole blocks; BAD_CHECKPOINT; WRITE_FAILED; INVALID_ARGUMENT for a
 * file that must not be replaced.
 */
export async function quantizeToGguf(
  directory: string,
  options: QuantizeCheckpointOptions,
): Promise<QuantizedCheckpoint> {
  const { out, scale, existing, onProgress, device } = options;
  const format = quantizableFormat(options.format, "format");
  const type = ggufTypeOfFormat(format);
  const model = await readSource(directory);
  checkFloatModel(model);
  await using checkpoint = await ShardedCheckpoint.open(directory);
  const layers = options.layers ? checkLayers(model, options.layers) : model.layersWithExperts();
  if (layers.length === 0) throw unexpected("layers", "layers with experts", "none");
  const plan = await planGguf(model, checkpoint, type, layers, basename(resolve(directory)));
  const layout = layOutGguf(plan.metadata, plan.tensors);
  const header = createHash("sha256").update(layout.header).digest("hex");
  const source = await sourceOf(checkpoint);
  const state = { package: packageVersion, format: format.name, scale, layers, source, header };
  await using file = await PartialFile.open<Progress>(out, state, existing, { tensors: 0, errors: [] });
  const { begun } = file;
  const errors = [...begun.errors];
  if (begun.tensors === 0) await file.write(layout.header, 0);
  using stored = new StoredMatrices(device);
  const data = new TensorData(checkpoint, stored, async (values, place) => {
    const quantized = await quantizeMatrix({ values, place }, format, scale);
    if (!hasSixBitScales(type)) return quantized;
    return withSixBitScales(format, Float32Array.from(await values.data()), quantized.bytes as BlockWeight);
  });
  for (const [index, tensor] of plan.tensors.entries()) {
    const { byteOffset, byteLength } = layout.places[index] as (typeof layout.places)[number];
    if (index >= begun.tensors) {
      let position = byteOffset;
      for await (const bytes of data.of(tensor, errors)) {
        await file.write(bytes, position);
        position += bytes.byteLength;
        onProgress(position / layout.byteLength);
      }
      if (position !== byteOffset + byteLength) throw new Error(`${tensor.name} has another size than was planned`);
      // Scales are known only while their tensor is being quantised.
      const { kind } = tensor.content;
      if (kind === "scales" || (kind === "quantized" && type !== "NVFP4"))
        await file.note({ tensors: index + 1, errors });
    } else onProgress((byteOffset + byteLength) / layout.byteLength);
  }
  await file.complete(layout.byteLength);
  onProgress(1);
  const bytesAfter = layout.places.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const { bytesBefore, whyNoTokenizer } = plan;
  return {
    out,
    format: format.name,
    scale,
    files: 1,
    resumed: begun.tensors,
    bytesBefore,
    bytesAfter,
    errors,
    whyNoTokenizer,
  };
}

/** Quantises a matrix. @param place where it comes from, for errors. */
type Quantize = (values: Tensor<FloatDType>, place: string) => ReturnType<typeof quantizeMatrix>;

/** Makes the data of tensors, piece by piece. */
class TensorData {
  readonly #checkpoint: ShardedCheckpoint;
  readonly #stored: StoredMatrices;
  readonly #quantize: Quantize;
  /** The scale of the scales of each matrix that was quantised last. */
  #superScales: number[] = [];

  constructor(checkpoint: ShardedCheckpoint, stored: StoredMatrices, quantize: Quantize) {
    this.#checkpoint = checkpoint;
    this.#stored = stored;
    this.#quantize = quantize;
  }

  /** @param errors gets those of matrices that are quantised. */
  async *of(tensor: PlannedTensor, errors: MatrixError[]): AsyncGenerator<Uint8Array> {
    const { content } = tensor;
    switch (content.kind) {
      case "quantized":
        this.#superScales = [];
        for (const part of content.parts) {
          yield await namingWeight(part.source, () => this.#blocks(tensor, part, errors));
        }
        return;
      case "scales":
        yield asBytes(Float32Array.from(this.#superScales));
        return;
      case "weights":
        for (const { source, shape } of content.parts) {
          yield await namingWeight(source, async () => {
            using values = await this.#stored.read(source, shape);
            return asBytes(tensor.type === "F32" ? ((await values.data()) as Float32Array) : await values.raw());
          });
        }
        return;
      case "heads":
        yield await this.#rowsOfHeads(content);
        return;
      case "copy":
        if (content.heads === undefined && tensor.type !== "F32") yield* this.#chunks(content.name);
        else yield await this.#whole(tensor, content.name, content.heads);
    }
  }

  async #blocks({ type }: PlannedTensor, part: WeightPart, errors: MatrixError[]): Promise<Uint8Array> {
    const { source, shape, layer, place, role } = part;
    using values = await this.#stored.read(source, shape);
    const { bytes, error } = await this.#quantize(values, placeOf(source));
    errors.push({ layer, place, role, error });
    const { superScales, ...levels } = bytes;
    if (type !== "NVFP4") return toBlocks(type, bytes as BlockWeight);
    this.#superScales.push((superScales as Float32Array)[0] as number);
    return toBlocks(type, levels as BlockWeight);
  }

  /** The bytes of a tensor as they are. */
  async *#chunks(name: string): AsyncGenerator<Uint8Array> {
    const file = await this.#checkpoint.fileOf(name);
    const { byteLength } = file.info(name);
    for (let done = 0; done < byteLength; ) {
      const bytes = memoryFor({ file, name, byteOffset: done, byteLength: Math.min(chunkBytes, byteLength - done) });
      await file.readRange(name, done, bytes);
      done += bytes.byteLength;
      yield bytes;
    }
  }

  /** Some rows of each head. */
  async #rowsOfHeads({ name, heads, part }: Extract<Content, { kind: "heads" }>): Promise<Uint8Array> {
    return await this.#made(name, ({ data, shape }) => {
      const [rows, columns] = shape as [number, number];
      const perHead = rows / heads;
      const size = part.rows * columns;
      const target = zerosLike(data as Elements, heads * size);
      for (let head = 0; head < heads; head++) {
        const start = (head * perHead + part.first) * columns;
        const own = (data as Elements).subarray(start, start + size);
        target.set(part.turned ? transpose(own, part.rows, columns) : own, head * size);
      }
      return asBytes(target);
    });
  }

  /** A tensor that is converted to float32, or whose rows are put in another order. */
  async #whole({ type, shape }: PlannedTensor, name: string, heads: number | undefined): Promise<Uint8Array> {
    return await this.#made(name, ({ data, dtype }) => {
      const widens = type === "F32" && dtype !== "F32";
      const values = widens ? decodeHalves(data as Uint16Array, dtype === "BF16" ? "bf16" : "f16") : data;
      return heads === undefined ? asBytes(values) : alternateHalves(asBytes(values), shape[0] as number, heads);
    });
  }

  /** What is made of a whole tensor. @throws OUT_OF_MEMORY, which names it. */
  async #made(name: string, make: (tensor: SafetensorsTensor) => Uint8Array): Promise<Uint8Array> {
    const file = await this.#checkpoint.fileOf(name);
    const place = tensorPlace(file.path, name);
    return await withPlaceInMemoryErrors(place, file.info(name).byteLength, async () => make(await file.read(name)));
  }
}

/** The rows of each head in another order: one of its first half, one of its second half, and so on. */
function alternateHalves(bytes: Uint8Array, rows: number, heads: number): Uint8Array {
  const target = new Uint8Array(bytes.byteLength);
  const [width, size] = [bytes.byteLength / rows, rows / heads];
  for (let row = 0; row < rows; row++) {
    const [head, place] = [Math.floor(row / size), row % size];
    const from = head * size + (place % 2) * (size / 2) + Math.floor(place / 2);
    target.set(bytes.subarray(from * width, (from + 1) * width), row * width);
  }
  return target;
}
