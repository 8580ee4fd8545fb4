import type { CacheStatus } from "../../checkpoint/cache/weight_cache.js";
import type { LoadedTokenFormat } from "../../checkpoint/schemes/checkpoint_tokens.js";
import type { DeviceOptions } from "../../core/addon/native.js";
import { unexpected } from "../../core/errors.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import type { StageTimes } from "../../core/layer/stages.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { shapeSize } from "../../core/tensors/shape.js";
import { type DeviceName, openDevice } from "../../devices.js";
import type { MoeLayerDescription } from "../../layer/description/config.js";
import { expertsWithWeights } from "../../layer/description/identity_experts.js";
import { isUniform, routedFormats } from "../../layer/description/storage.js";
import { countedRows, type LayerWork, layerWork } from "../../layer/work.js";
import type { MoeLayer } from "../../moe_layer.js";
import type { RouterHistory } from "../../statistics/router_history.js";
import type { Check } from "../../testing/run.js";
import { tokensPerExpert } from "../../testing/tokens_per_expert.js";
import type { Workload } from "../workloads/workload.js";
import { checkLayer } from "./check_layer.js";
import { recordRouting } from "./record_routing.js";
import { type RunTokens, uploadTokens } from "./run_tokens.js";

/** The results of running a layer on one device. */
export interface LayerRun {
  /** Which layer of the workloads: "layer 3". */
  readonly layer: string;
  readonly device: string;
  /** Why `auto` chose this device; empty if it was named. */
  readonly deviceReason: string;
  readonly description: MoeLayerDescription;
  readonly tokens: { readonly origin: string; readonly count: number };
  readonly weightBytes: number;
  readonly loadSeconds: number;
  /** The outcome of the cache of packed weights; null if none was asked for. */
  readonly cache: CacheStatus | null;
  /** Time of the fastest forward. */
  readonly microseconds: number;
  /** Times of its stages in microseconds, as the device measured them. */
  readonly stages: StageTimes;
  readonly tokensPerExpert: readonly number[];
  readonly work: LayerWork;
  /** What the router did, slice by slice of the tokens; null if not asked for. */
  readonly history: RouterHistory | null;
  /** Comparisons with the expected results; empty if none are known, or if weights or tokens were to be quantised. */
  readonly checks: readonly Check[];
  /** What quantising changed; null if neither weights nor tokens were to be quantised, and no other model was named. */
  readonly quantization: QuantizationEffect | null;
}

/** The output of a quantised layer compared with that of the same layer as it is, or of another model. */
export interface QuantizationEffect {
  /** The other model; null if it is the same. */
  readonly model: string | null;
  /** The other layer's formats of the routed experts. */
  readonly comparedWith: string;
  readonly weightBytes: number;
  /** sqrt(Σ (y - y')² / Σ y'²) */
  readonly relativeError: number;
}

export interface LayerRunOptions extends DeviceOptions {
  readonly device: DeviceName;
  readonly dtype: WeightFormatName | undefined;
  readonly tokenFormat?: LoadedTokenFormat | undefined;
  /** How many times the forward runs; the fastest counts. */
  readonly repeat: number;
  /** Whether to record what the router does over the tokens. */
  readonly history?: boolean;
  /** Called with the share of the layer that has been loaded, 0 .. 1. */
  readonly onLoad: (share: number) => void;
}

/** Loads a workload's layer on a device, runs it on its tokens, times it and checks what it computed. */
export async function runWorkload(workload: Workload, options: LayerRunOptions): Promise<LayerRun> {
  const { device: name, dtype, tokenFormat, repeat, history = false, onLoad, ...deviceOptions } = options;
  using device = openDevice(name, deviceOptions);
  const begin = performance.now();
  using layer = await workload.load(device, { dtype, tokenFormat }, onLoad);
  await device.synchronize();
  const loadSeconds = (performance.now() - begin) / 1e3;

  const { description } = layer;
  const quantizes = (dtype !== undefined && !isUniform(dtype)) || description.tokenFormat !== "none";
  const tokens = workload.tokens(description.hiddenSize);
  const tokenDType = description.weightDType as FloatDType;
  const count = shapeSize(tokens.shape.slice(0, -1));
  using uploaded = uploadTokens(layer, tokens);
  const fastest = await timeForward(layer, uploaded, repeat);
  const counts = await tokensPerExpert(layer, uploaded.read, uploaded.routeOptions);
  return {
    layer: workload.layer,
    device: device.name,
    deviceReason: device.reason,
    description,
    tokens: { origin: tokens.origin, count },
    weightBytes: layer.byteLength,
    loadSeconds,
    cache: layer.cacheStatus ?? null,
    ...fastest,
    tokensPerExpert: counts,
    work: layerWork(description, countedRows(count, counts.slice(0, expertsWithWeights(description))), tokenDType),
    history: history ? await recordRouting(layer, uploaded) : null,
    checks: workload.expectation && !quantizes ? await checkLayer(layer, uploaded, workload.expectation) : [],
    quantization: quantizes || workload.original ? await quantizationEffect(workload, layer, uploaded) : null,
  };
}

/** Compares a quantised layer with the same layer as it is without quantising, or in another model. */
async function quantizationEffect(
  workload: Workload,
  layer: MoeLayer,
  { x, options }: RunTokens,
): Promise<QuantizationEffect> {
  using y = layer.forward(x, options);
  const output = await y.data();
  const { original } = workload;
  using other = await (original ? original.load(layer.device) : workload.load(layer.device, {}, () => {}));
  const { hiddenSize } = other.description;
  if (hiddenSize !== x.shape[1]) {
    throw unexpected("--compare", `a model of hidden size ${x.shape[1]}`, `one of ${hiddenSize}`);
  }
  using expected = other.forward(x, options);
  let [errors, squares] = [0, 0];
  for (const [index, value] of (await expected.data()).entries()) {
    errors += ((output[index] as number) - value) ** 2;
    squares += value ** 2;
  }
  return {
    model: original?.model ?? null,
    comparedWith: routedFormats(other.description).join(" and "),
    weightBytes: other.byteLength,
    relativeError: errors === 0 ? 0 : Math.sqrt(errors / squares),
  };
}

/** The fastest of `repeat` forwards. */
async function timeForward(
  layer: MoeLayer,
  { x, options }: RunTokens,
  repeat: number,
): Promise<Pick<LayerRun, "microseconds" | "stages">> {
  const { device } = layer;
  using y = device.empty(x.shape, x.dtype);
  let fastest: Pick<LayerRun, "microseconds" | "stages"> | undefined;
  // From here on, a GPU times the stages.
  await layer.stageTimes();
  for (let round = 0; round < repeat; round++) {
    const begin = performance.now();
    layer.forward(x, { ...options, out: y });
    await device.synchronize();
    const microseconds = (performance.now() - begin) * 1e3;
    const stages = await layer.stageTimes();
    if (microseconds < (fastest?.microseconds ?? Infinity)) fastest = { microseconds, stages };
  }
  return fastest as Pick<LayerRun, "microseconds" | "stages">;
}
