import { greatestCommonDivisor } from "../../core/greatest_common_divisor.js";
import { gateUpRows, isGated } from "../../core/layer/activation.js";
import { Made } from "../../core/tensors/made.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { copyAll } from "../../operators/copy_all.js";
import { permute } from "../../operators/experts/permute.js";
import type { DeviceLayer } from "../device_layer.js";
import type { ExpertWeights } from "../weights/expert_weights.js";

/** One expert's tensors: views of the memory of all experts. */
export type ExpertTensors = ExpertWeights<Tensor<"f32">, Tensor<"f32">>;

/** The tensors of all experts A of a layer of the device, shared ones included. */
export interface ExpertMemory {
  /** [A, P, H] */
  readonly gateUp: Tensor<"f32">;
  /** [A, I, H] */
  readonly multiplier: Tensor<"f32"> | undefined;
  /** [A, H, I] */
  readonly down: Tensor<"f32">;
  /** [A, P] and [A, H] */
  readonly gateUpBias: Tensor<"f32"> | undefined;
  readonly downBias: Tensor<"f32"> | undefined;
}

/** Memory for all experts of a layer of the device, shared ones included. All begin as zeros. */
export function expertMemory(layer: DeviceLayer, dtype: "f32"): ExpertMemory {
  const { device, description, expertCount } = layer;
  const { intermediateSize, hiddenSize, activation, multiplier } = description;
  const inner = gateUpRows(activation, intermediateSize);
  using made = new Made();
  const memory = (...shape: Shape) => made.own(device.zeros([expertCount, ...shape], dtype));
  return made.returned({
    gateUp: memory(inner, hiddenSize),
    multiplier: multiplier ? memory(intermediateSize, hiddenSize) : undefined,
    down: memory(hiddenSize, intermediateSize),
    gateUpBias: layer.hasExpertBias("gateBias") || layer.hasExpertBias("upBias") ? memory(inner) : undefined,
    downBias: layer.hasExpertBias("downBias") ? memory(hiddenSize) : undefined,
  });
}

/** Some of the rows of a matrix or a vector for every expert, as one expert has them. */
function part(all: Tensor<"f32">, expert: number, first: number, count: number): Tensor<"f32"> {
  const [experts, rows, ...rest] = all.shape as [number, number, ...number[]];
  using flat = all.reshape([experts * rows, ...rest]);
  return flat.rows(expert * rows + first, expert * rows + first + count);
}

/** The tensors of one expert, for the caller to dispose of. */
export function expertViews(
  layer: DeviceLayer,
  memory: ExpertMemory,
  owner: "experts" | "shared",
  expert: number,
): ExpertTensors {
  const { intermediateSize, hiddenSize, activation } = layer.description;
  const { gateUp, multiplier, down, gateUpBias, downBias } = memory;
  const gated = isGated(activation);
  const has = (role: "gateBias" | "upBias" | "downBias") => layer.record.hasBias(owner, role);
  const up = gated ? intermediateSize : 0;
  return {
    ...(gated && { gate: part(gateUp, expert, 0, intermediateSize) }),
    up: part(gateUp, expert, up, intermediateSize),
    ...(multiplier && { multiplier: part(multiplier, expert, 0, intermediateSize) }),
    down: part(down, expert, 0, hiddenSize),
    ...(gated && gateUpBias && has("gateBias") && { gateBias: part(gateUpBias, expert, 0, intermediateSize) }),
    ...(gateUpBias && has("upBias") && { upBias: part(gateUpBias, expert, up, intermediateSize) }),
    ...(downBias && has("downBias") && { downBias: part(downBias, expert, 0, hiddenSize) }),
  };
}

/** Whether the shared expert is one of the experts as it is. */
function isOneExpert(layer: DeviceLayer): boolean {
  const { sharedExperts, intermediateSize } = layer.description;
  return sharedExperts === 1 && layer.sharedWidth === intermediateSize;
}

/** The tensors of the shared expert: views, or memory of its own if it is not one of the experts as it is. */
export function sharedGradients(layer: DeviceLayer, memory: ExpertMemory): ExpertTensors | undefined {
  const { bank, sharedExperts, hiddenSize } = layer.description;
  if (sharedExperts === 0) return undefined;
  if (isOneExpert(layer)) return expertViews(layer, memory, "shared", bank.count);
  const first = expertViews(layer, memory, "shared", bank.count);
  const width = layer.sharedWidth;
  const shapes: Readonly<Record<string, Shape>> = {
    down: [hiddenSize, width],
    gateBias: [width],
    upBias: [width],
    downBias: [hiddenSize],
  };
  const own = Object.entries(first).map(([role, tensor]: [string, Tensor<"f32">]) => {
    const made = layer.device.zeros(shapes[role] ?? [width, hiddenSize], tensor.dtype);
    tensor.dispose();
    return [role, made];
  });
  return Object.fromEntries(own);
}

/** Makes zeros of what there is memory for and no weight. */
export function clearAbsent(layer: DeviceLayer, memory: ExpertMemory): void {
  clearAbsentBiases(layer, memory);
  clearPadding(layer, memory);
}

/**
 * If some expert has a bias, there is memory for it in all: those that have none keep zeros, and no gradient, or an optimiser
 * would give them one. The bias of the shared expert's output is the first one's alone, or it would be added once for each.
 */
function clearAbsentBiases(layer: DeviceLayer, { gateUpBias, downBias }: ExpertMemory): void {
  const { description, record, expertCount } = layer;
  const { bank, intermediateSize, activation } = description;
  const inner = isGated(activation) ? (["gateBias", "upBias"] as const) : (["upBias"] as const);
  const ofInner: number[] = [];
  const ofDown: number[] = [];
  for (let expert = 0; expert < expertCount; expert++) {
    const owner = expert < bank.count ? "experts" : "shared";
    inner.forEach((role, part) => {
      if (!record.hasBias(owner, role)) ofInner.push(expert * inner.length + part);
    });
    if (!record.hasBias(owner, "downBias") || expert > bank.count) ofDown.push(expert);
  }
  if (downBias) clearRows(downBias, ofDown);
  if (gateUpBias === undefined || ofInner.length === 0) return;
  using parts = gateUpBias.reshape([gateUpBias.size / intermediateSize, intermediateSize]);
  clearRows(parts, ofInner);
}

/** The last of the experts that hold the shared one may be wider than what is left of it. */
function clearPadding(layer: DeviceLayer, { gateUp, multiplier, down, gateUpBias }: ExpertMemory): void {
  const { sharedExperts, intermediateSize: width, hiddenSize } = layer.description;
  const used = layer.sharedWidth - (sharedExperts - 1) * width;
  if (sharedExperts === 0 || used === width) return;
  const last = layer.expertCount - 1;
  for (const memory of [gateUp, multiplier, gateUpBias]) {
    if (memory === undefined) continue;
    const [experts, rows, columns = 1] = memory.shape as [number, number, number?];
    using all = memory.reshape([experts * rows, columns]);
    const rowsOfLast = Array.from({ length: rows }, (_, row) => last * rows + row);
    clearRows(
      all,
      rowsOfLast.filter((row) => row % width >= used),
    );
  }
  // Of down these are columns: rows of a matrix that is so narrow that each has either used columns or others.
  const columns = greatestCommonDivisor(used, width);
  const [rows, perRow] = [(hiddenSize * width) / columns, width / columns];
  using all = down.reshape([down.size / columns, columns]);
  using ofLast = all.rows(last * rows, (last + 1) * rows);
  const kept = Int32Array.from({ length: rows }, (_, row) => ((row % perRow) * columns < used ? row : -1));
  using order = layer.device.tensor(kept);
  using cleared = permute(ofLast, order);
  copyAll(cleared, ofLast);
}

/** Writes zeros to rows, numbered in ascending order; neighbours at once. */
function clearRows(matrix: Tensor<"f32">, rows: readonly number[]): void {
  for (let first = 0, end = 1; end <= rows.length; end++) {
    const from = rows[first] as number;
    if (rows[end] === from + end - first) continue;
    using run = matrix.rows(from, from + end - first);
    using zeros = matrix.device.zeros(run.shape, run.dtype);
    copyAll(zeros, run);
    first = end;
  }
}

/** The shared expert's weights lie in several experts, side by side: columns of `down`, rows of the others. */
export function gatherShared(layer: DeviceLayer, memory: ExpertMemory, shared: ExpertTensors): void {
  const { bank, sharedExperts, hiddenSize, intermediateSize } = layer.description;
  if (isOneExpert(layer)) return;
  const { device } = layer;
  const width = layer.sharedWidth;
  for (let index = 0; index < sharedExperts; index++) {
    const first = index * intermediateSize;
    const count = Math.min(intermediateSize, width - first);
    const source = expertViews(layer, memory, "shared", bank.count + index);
    for (const [role, tensor] of Object.entries(source) as [keyof ExpertTensors, Tensor<"f32">][]) {
      const whole = shared[role] as Tensor<"f32">;
      if (role !== "down" && !(role === "downBias" && index > 0)) {
        using rows = role === "downBias" ? whole.rows(0, hiddenSize) : whole.rows(first, first + count);
        using given = tensor.rows(0, rows.shape[0] as number);
        copyAll(given, rows);
      }
      tensor.dispose();
    }
  }
  // Row h of all experts' down, one after another, is row h of the whole.
  const order = new Int32Array(hiddenSize * sharedExperts);
  for (let i = 0; i < order.length; i++) {
    order[i] = (bank.count + (i % sharedExperts)) * hiddenSize + Math.floor(i / sharedExperts);
  }
  using rowOrder = device.tensor(order);
  using all = memory.down.reshape([layer.expertCount * hiddenSize, intermediateSize]);
  using gathered = permute(all, rowOrder);
  const columns = sharedExperts * intermediateSize;
  const source = { handle: gathered.handle, rows: hiddenSize, columns: width, rowStride: columns, columnStride: 1 };
  device.backend.copyMatrix({ source, target: shared.down.handle });
}
