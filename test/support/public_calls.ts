import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GgufFile, SplitGguf } from "../../lib/checkpoint/gguf/index.js";
import {
  parseSafetensors,
  SafetensorsFile,
  ShardedCheckpoint,
  serializeSafetensors,
  writeSafetensors,
  writeShardedSafetensors,
} from "../../lib/checkpoint/safetensors/index.js";
import * as api from "../../lib/index.js";
import { writeRandomModel } from "../checkpoint/support/random_model.js";
import { rawGguf } from "./gguf.js";

// biome-ignore lint/suspicious/noExplicitAny: options of every function, valid and not
export type Options = any;

/** A public function or method, and arguments that it accepts. */
export interface PublicCall {
  readonly name: string;
  /** Before the options. */
  readonly args: readonly unknown[];
  /** Options that together have every name that the function knows; none if it takes no options. */
  readonly valid: readonly Options[];
  /** After the options. */
  readonly after: readonly unknown[];
  call(...args: readonly unknown[]): unknown;
}

/** As the table has them; `call` takes what its own type says. */
interface Written extends Partial<PublicCall> {
  readonly name: string;
  readonly args: readonly unknown[];
  // biome-ignore lint/suspicious/noExplicitAny: any function
  call(...args: any[]): unknown;
}

type LoadArguments = Parameters<typeof api.MoeLayer.load>;

export interface PublicCalls {
  readonly calls: readonly PublicCall[];
  close(): Promise<void>;
}

/** Every public function and method with arguments: on `device`, with files in `directory`. */
export async function publicCalls(device: api.Device, directory: string): Promise<PublicCalls> {
  const floats = (...shape: number[]) => device.zeros(shape, "f32");
  const integers = (...shape: number[]) => device.zeros(shape, "i32");
  const tokenMask = device.zeros([4], "u8");
  const routing = () => ({ ids: integers(4, 2), weights: floats(4, 2) });
  const [T, H, E] = [4, 3, 6];
  const logits = floats(T, E);

  const rule = {
    topK: 2,
    scoring: "softmax",
    selectionKey: "score",
    groups: { count: 3, top: 2, score: "max" },
    normalize: { by: "clamped_sum", epsilon: 0.1 },
    scale: 2,
  };
  const size = { factor: 1, round: "up", minimum: 1, multipleOf: 2 };
  const capacity = { ...size, per: "sequence", drop: "position", renormalize: { by: "kept", scale: 2 } };

  const sizes = { device, dtype: "f32", hiddenSize: H, intermediateSize: 2, numExperts: E, topK: 2 };
  const weight = (...shape: number[]) => ({ tensor: floats(...shape), orient: "out_in" });
  const stacked = (...shape: number[]) => ({ tensor: floats(E, ...shape), orient: "out_in", stacked: "dim0" });
  const experts = { gate: stacked(2, H), up: stacked(2, H), down: stacked(H, 2) };
  const biases = { gateBias: stacked(2), upBias: stacked(2), downBias: stacked(H) };
  const one = () => ({
    gate: floats(2, H),
    up: { tensor: floats(4, H), part: "even" },
    multiplier: floats(2, H),
    down: floats(H, 2),
  });
  const plain = { ...sizes, router: weight(E, H), experts };
  const noisy = api.MoeLayer.create({ ...plain, noisy: {}, noiseRouter: floats(E, H) } as Options);
  const hierarchical = {
    ...plain,
    hierarchy: { numGroups: 2, ...rule, topK: 1, groups: { count: 1, top: 1 } },
    noisy: { epsilon: 0.1 },
    noiseRouter: weight(E, H),
    groupRouter: weight(2, H),
    groupRouterBias: weight(2),
    groupNoiseRouter: weight(2, H),
  };

  const deep = api.MoeLayer.create(hierarchical as Options);
  const biased = api.MoeLayer.create({ ...plain, selectionBias: floats(E) } as Options);

  const trained = api.MoeLayer.create(plain as Options);
  const trainedBefore = trained.backward(trained.forward(floats(T, H), { save: true }).state, floats(T, H)).gradients;
  const parameter = { name: "p", value: floats(T), gradient: floats(T) };

  // `reference` has no offload.
  const simt = api.openDevice("simt");
  const onSimt = (...shape: number[]) => simt.zeros(shape, "f32");
  const offloaded = {
    ...sizes,
    device: simt,
    router: onSimt(E, H),
    experts: { gate: onSimt(E, 2, H), up: onSimt(E, 2, H), down: onSimt(E, H, 2) },
    offload: { slots: 2, policy: "lru", pinned: [1], onMiss: "load" },
  };
  const budget = new api.OffloadBudget(simt, { slots: 2 });
  const shared = { ...offloaded, offload: { budget, pinned: [1], onMiss: "auto" } };
  const offloading = api.MoeLayer.create(offloaded as Options).offload as api.ExpertOffload;

  const file = join(directory, "tensors.safetensors");
  const tensors = { x: { dtype: "U8", shape: [1], data: Uint8Array.of(1) } } as const;
  await writeSafetensors(file, tensors);
  const opened = await SafetensorsFile.open(file);
  const checkpointFolder = join(directory, "checkpoint");
  mkdirSync(checkpointFolder);
  await writeSafetensors(join(checkpointFolder, "model.safetensors"), tensors);
  const checkpoint = await ShardedCheckpoint.open(checkpointFolder);
  const gguf = join(directory, "tensors.gguf");
  writeFileSync(gguf, rawGguf({ tensors: [{ name: "x", type: "I8", shape: [1] }] }));
  const openedGguf = await GgufFile.open(gguf);
  const split = await SplitGguf.open(gguf);
  const transfer = { onProgress: () => {}, signal: new AbortController().signal };

  const layerConfig = {
    hiddenSize: 4,
    intermediateSize: 4,
    numExperts: 2,
    topK: 2,
    sharedExpert: { intermediateSize: 4, gate: "sigmoid" },
  };
  const modelFolder = join(directory, "model");
  await writeRandomModel(
    modelFolder,
    { model_type: "mixtral", num_hidden_layers: 1, hidden_size: 4, intermediate_size: 4, num_local_experts: 3 },
    {},
  );
  const model = await api.openModel(modelFolder);

  const stats = new api.RouterStats(device, { numExperts: E });
  stats.record(logits, routing());
  const history = await stats.read();

  const withOptions: Written[] = [
    {
      name: "openDevice",
      args: ["reference"],
      call: api.openDevice,
      valid: [{ threads: 1, poison: true, tf32: true }],
    },
    {
      name: "routerProjection",
      args: [floats(T, H), floats(E, H)],
      call: api.routerProjection,
      valid: [{ bias: floats(E), out: floats(T, E) }],
    },
    {
      name: "gating",
      args: [logits],
      call: api.gating,
      valid: [
        { ...rule, selectionBias: floats(E), out: routing() },
        { topK: 2, scoring: "sparsemixer", jitter: 0.1, normalize: { by: "lp", power: 2 } },
      ],
    },
    {
      name: "routerProjectionBackward",
      args: [floats(T, H), floats(E, H), floats(T, E)],
      call: api.routerProjectionBackward,
      valid: [{ bias: true, out: { dx: floats(T, H), dWeight: floats(E, H), dBias: floats(E) } }],
    },
    {
      name: "gatingBackward",
      args: [logits, routing(), floats(T, 2)],
      call: api.gatingBackward,
      valid: [
        { ...rule, out: floats(T, E) },
        { topK: 2, scoring: "sparsemixer", jitter: 0.1, normalize: { by: "lp", power: 2 } },
      ],
    },
    {
      name: "hierarchicalGating",
      args: [floats(T, 2), logits],
      call: api.hierarchicalGating,
      valid: [
        { groups: { topK: 1, normalize: true }, experts: { ...rule, groups: { count: 3, top: 2 } }, out: routing() },
      ],
    },
    {
      name: "hierarchicalGatingBackward",
      args: [floats(T, 2), logits, routing(), floats(T, 2)],
      call: api.hierarchicalGatingBackward,
      valid: [
        {
          groups: { topK: 1, normalize: true },
          experts: { ...rule, groups: { count: 3, top: 2 } },
          out: { dGroupLogits: floats(T, 2), dLogits: floats(T, E) },
        },
      ],
    },
    {
      name: "limitCapacityBackward",
      args: [routing(), routing(), floats(T, 2)],
      call: api.limitCapacityBackward,
      valid: [{ renormalize: { by: "chosen", scale: 2 }, out: floats(T, 2) }],
    },
    {
      name: "expertChoiceBackward",
      args: [logits, { ids: integers(T, E) }, floats(T, E)],
      call: api.expertChoiceBackward,
      valid: [{ scoring: "sigmoid", out: floats(T, E) }],
    },
    {
      name: "limitCapacity",
      args: [routing()],
      call: api.limitCapacity,
      valid: [
        { numExperts: E, ...capacity, sequenceLength: 2, out: routing() },
        { numExperts: E, tokens: 1 },
      ],
    },
    { name: "expertCapacity", args: [], after: [T, 2, E], call: api.expertCapacity, valid: [size, { tokens: 1 }] },
    {
      name: "expertChoice",
      args: [logits],
      call: api.expertChoice,
      valid: [
        {
          ...size,
          scoring: "sigmoid",
          out: { tokens: integers(E, 2), tokenWeights: floats(E, 2), ids: integers(T, E), weights: floats(T, E) },
        },
        { tokens: 1 },
      ],
    },
    {
      name: "expertSlots",
      args: [integers(T, 2)],
      call: api.expertSlots,
      valid: [{ numExperts: E, capacity: 2, out: integers(E, 2) }],
    },
    {
      name: "sharedSlots",
      args: [integers(T, 2), floats(T, 2)],
      call: api.sharedSlots,
      valid: [
        {
          numExperts: E,
          sharedExperts: 1,
          bank: { first: 2, count: 3 },
          gate: floats(T, 2),
          out: { ids: integers(T, 3), weights: floats(T, 3) },
        },
      ],
    },
    {
      name: "sharedSlotsBackward",
      args: [floats(T, 2), floats(T, 3)],
      call: api.sharedSlotsBackward,
      valid: [{ sharedExperts: 1, gate: floats(T, 1), out: { dWeights: floats(T, 2), dGate: floats(T, 1) } }],
    },
    {
      name: "sort",
      args: [integers(T, 2)],
      call: api.sort,
      valid: [
        {
          numExperts: E,
          out: {
            offsets: integers(E + 1),
            tokensPerExpert: integers(E),
            tokenOfRow: integers(2 * T),
            rowOfSlot: integers(T, 2),
          },
        },
      ],
    },
    { name: "permute", args: [floats(T, H), integers(5)], call: api.permute, valid: [{ out: floats(5, H) }] },
    { name: "unpermute", args: [floats(5, H), integers(T, 2)], call: api.unpermute, valid: [{ out: floats(T, 2, H) }] },
    {
      name: "activate",
      args: [floats(5, 4)],
      call: api.activate,
      valid: [{ activation: "swiglu_clamped", clamp: { limit: 2 }, multiplier: floats(5, 2), out: floats(5, 2) }],
    },
    {
      name: "activationBackward",
      args: [floats(5, 4), floats(5, 2)],
      call: api.activationBackward,
      valid: [
        {
          activation: "swiglu_clamped",
          clamp: { alpha: 1, limit: 2, offset: 3 },
          multiplier: floats(5, 2),
          inner: true,
          out: { dPre: floats(5, 4), dMultiplier: floats(5, 2), inner: floats(5, 2) },
        },
      ],
    },
    {
      name: "combine",
      args: [floats(5, H), integers(T, 2), floats(T, 2)],
      call: api.combine,
      valid: [{ residual: floats(T, H), out: floats(T, H) }],
    },
    {
      name: "rmsNorm",
      args: [floats(T, H), floats(H)],
      call: api.rmsNorm,
      valid: [{ epsilon: 1e-5, offset: 1, out: floats(T, H) }],
    },
    {
      name: "rmsNormBackward",
      args: [floats(T, H), floats(H), floats(T, H)],
      call: api.rmsNormBackward,
      valid: [
        { epsilon: 1e-5, offset: 1, residual: floats(T, H), out: { dx: floats(T, H), dWeight: floats(H) } },
        { want: "dx" },
      ],
    },
    {
      name: "combineBackward",
      args: [floats(5, H), integers(T, 1), floats(T, 1), floats(T, H)],
      call: api.combineBackward,
      valid: [{ out: { dRows: floats(5, H), dWeights: floats(T, 1) } }, { want: "dRows" }],
    },
    {
      name: "permuteBackward",
      args: [floats(5, H), integers(T, 2)],
      call: api.permuteBackward,
      valid: [{ out: floats(T, H) }],
    },
    {
      name: "packExperts",
      args: [floats(E, 4, H)],
      call: api.packExperts,
      valid: [{ activation: "swiglu_clamped", clamp: { alpha: 1, limit: 2, offset: 3 } }, { transpose: true }],
    },
    {
      name: "groupedGemm",
      args: [floats(T, H), floats(E, 4, H), integers(E + 1)],
      call: api.groupedGemm,
      valid: [
        {
          activation: "swiglu_clamped",
          clamp: { limit: 2 },
          tokenOfRow: integers(5),
          bias: floats(E, 4),
          out: floats(5, 2),
        },
      ],
    },
    {
      name: "groupedGemmWeightBackward",
      args: [floats(T, H), floats(5, 4), integers(E + 1)],
      call: api.groupedGemmWeightBackward,
      valid: [
        {
          tokenOfRow: integers(5),
          bias: true,
          accumulate: true,
          out: { dWeight: floats(E, 4, H), dBias: floats(E, 4) },
        },
      ],
    },
    {
      name: "groupedGemmBackward",
      args: [floats(T, H), floats(E, 4, H), integers(E + 1), floats(5, 4)],
      call: api.groupedGemmBackward,
      valid: [
        {
          tokenOfRow: integers(5),
          bias: true,
          accumulate: true,
          out: { dx: floats(5, H), dWeight: floats(E, 4, H), dBias: floats(E, 4) },
        },
      ],
    },
    { name: "quantize", args: [floats(4, 32), "int4_g32"], call: api.quantize, valid: [{ scale: "least_squares" }] },
    {
      name: "dequantize",
      args: [api.quantize(floats(4, 32), "int4_g32")],
      call: api.dequantize,
      valid: [{ dtype: "f32", out: floats(4, 32) }],
    },
    {
      name: "quantizationError",
      args: [floats(4, 32), api.quantize(floats(4, 32), "int4_g32")],
      call: api.quantizationError,
      valid: [{ out: floats(1) }],
    },
    {
      name: "random",
      args: [device, [T, E]],
      call: api.random,
      valid: [{ seed: 1n, distribution: "normal", offset: 3, out: floats(T, E) }],
    },
    { name: "jitter", args: [floats(T, H)], call: api.jitter, valid: [{ epsilon: 0.1, seed: 1, out: floats(T, H) }] },
    {
      name: "noisyLogits",
      args: [logits, logits],
      call: api.noisyLogits,
      valid: [
        { seed: 1, offset: 2, epsilon: 0.1, out: { logits: floats(T, E), deviation: floats(T, E) } },
        { noise: floats(T, E) },
      ],
    },
    {
      name: "expertLoad",
      args: [logits, logits, logits],
      call: api.expertLoad,
      valid: [{ topK: 2, groups: { ids: integers(T, 1), load: floats(2) }, tokenMask, out: floats(E) }],
    },
    {
      name: "noisyLogitsBackward",
      args: [logits, floats(T, E)],
      call: api.noisyLogitsBackward,
      valid: [{ seed: 1, offset: 2, dDeviation: floats(T, E), out: floats(T, E) }, { noise: floats(T, E) }],
    },
    {
      name: "expertLoadBackward",
      args: [logits, logits, logits, floats(E)],
      call: api.expertLoadBackward,
      valid: [
        {
          topK: 2,
          groups: { ids: integers(T, 1), load: floats(2) },
          tokenMask,
          out: { dClean: floats(T, E), dNoisy: floats(T, E), dDeviation: floats(T, E), dGroupLoad: floats(2) },
        },
      ],
    },
    {
      name: "columnMeansBackward",
      args: [logits, floats(2, E)],
      call: api.columnMeansBackward,
      valid: [{ square: true, tokenMask, out: floats(T, E) }],
    },
    {
      name: "expertTotalsBackward",
      args: [integers(T, 2), floats(2, E)],
      call: api.expertTotalsBackward,
      valid: [{ choices: 1, tokenMask, out: floats(T, 2) }],
    },
    {
      name: "cvSquaredBackward",
      args: [floats(E)],
      call: api.cvSquaredBackward,
      valid: [{ unbiased: true, epsilon: 1, factor: 2, out: floats(E) }],
    },
    {
      name: "loadBalancingLossBackward",
      args: [logits, integers(T, 2)],
      call: api.loadBalancingLossBackward,
      valid: [
        {
          scoring: "sigmoid",
          sequences: 2,
          choices: "first",
          normalization: "tokens",
          tokenMask,
          factor: 0.01,
          out: floats(T, E),
        },
      ],
    },
    {
      name: "routerScoresBackward",
      args: [logits, { dScores: floats(T, E), dLogSumExp: floats(T), dEntropy: floats(T) }],
      call: api.routerScoresBackward,
      valid: [{ scoring: "sigmoid", normalize: true, out: floats(T, E) }],
    },
    {
      name: "zLossBackward",
      args: [logits],
      call: api.zLossBackward,
      valid: [{ tokenMask, factor: 2, out: floats(T, E) }],
    },
    { name: "accumulate", args: [floats(T, 2), floats(T)], call: api.accumulate, valid: [{ scale: 2 }] },
    {
      name: "columnMeans",
      args: [logits],
      call: api.columnMeans,
      valid: [{ sequences: 2, square: true, tokenMask, out: floats(2, E) }],
    },
    {
      name: "expertTotals",
      args: [integers(T, 2)],
      call: api.expertTotals,
      valid: [
        {
          numExperts: E,
          weights: floats(T, 2),
          sequences: 2,
          choices: 1,
          tokenMask,
          out: { tokens: integers(2, E), dropped: integers(2), weights: floats(2, E) },
        },
      ],
    },
    { name: "cvSquared", args: [floats(E)], call: api.cvSquared, valid: [{ unbiased: true, epsilon: 1 }] },
    {
      name: "loadBalancingLoss",
      args: [logits, integers(T, 2)],
      call: api.loadBalancingLoss,
      valid: [{ scoring: "sigmoid", sequences: 2, choices: "first", normalization: "tokens", tokenMask }],
    },
    {
      name: "routerScores",
      args: [logits],
      call: api.routerScores,
      valid: [
        {
          scoring: "sigmoid",
          normalize: true,
          out: { scores: floats(T, E), logSumExp: floats(T), entropy: floats(T) },
        },
      ],
    },
    {
      name: "routerStatistics",
      args: [logits, integers(T, 2)],
      call: api.routerStatistics,
      valid: [{ sequences: 2, tokenMask }],
    },
    {
      name: "updateSelectionBias",
      args: [floats(E), integers(1, E)],
      call: api.updateSelectionBias,
      valid: [{ rate: 0.1, out: floats(E) }],
    },
    { name: "zLoss", args: [logits], call: api.zLoss, valid: [{ tokenMask }] },
    { name: "heatMap", args: [history], call: api.heatMap, valid: [{ columns: 30, color: true }] },
    {
      name: "RouterStats",
      args: [device],
      call: (...args) => Reflect.construct(api.RouterStats, args),
      valid: [{ numExperts: E, windows: 4 }],
    },
    { name: "RouterStats.record", args: [logits, routing()], call: stats.record.bind(stats), valid: [{ tokenMask }] },
    {
      name: "writeRouterReport",
      args: [[{ name: "layer 3", history, dtype: "bf16" }], join(directory, "report.html")],
      call: api.writeRouterReport,
      valid: [{ title: "Layer", date: "today", device: "cpu", about: "Tokens" }],
    },
    {
      name: "MoeLayer.create",
      args: [],
      call: api.MoeLayer.create,
      valid: [
        {
          ...plain,
          ...rule,
          experts: { ...experts, ...biases },
          routerBias: weight(E),
          selectionBias: weight(E),
          activation: "swiglu_clamped",
          clamp: { limit: 2 },
          outputActivation: "none",
          weightOn: "output",
          sharedExpert: { intermediateSize: 2, gate: "sigmoid" },
          shared: { gate: floats(2, H), up: weight(2, H), down: floats(H, 2) },
          sharedGate: weight(1, H),
          sharedGateBias: weight(1),
          capacity,
        },
        { ...plain, multiplier: true, experts: Array.from({ length: E }, one), routerJitter: 0.1 },
        { ...plain, topK: E, expertChoice: { tokens: 1 } },
        hierarchical,
        { ...plain, scoring: "sparsemixer", jitter: 0.1 },
        { ...plain, dtype: "int8", quantize: { scale: "least_squares" } },
      ],
    },
    {
      name: "MoeLayer.create with offload",
      args: [],
      call: api.MoeLayer.create,
      valid: [offloaded, { ...offloaded, offload: { bytes: 2 ** 20 } }, shared],
    },
    {
      name: "OffloadBudget",
      args: [simt],
      call: (...args) => Reflect.construct(api.OffloadBudget, args),
      valid: [{ slots: 2, policy: "lru" }, { bytes: 2 ** 20 }],
    },
    {
      name: "MoeLayer.load",
      args: [join(directory, "none")],
      call: (...args) => api.MoeLayer.load(...(args as LoadArguments)).catch(noModel),
      valid: [
        { layer: 0, device, dtype: "f32", cache: false, onProgress: () => {}, signal: transfer.signal },
        { layer: 0, device, cache: { folder: directory, copy: true } },
        { layer: 0, device, dtype: "int8", quantize: { scale: "least_squares" } },
        { layer: 0, device, offload: { slots: 2, policy: "lru", pinned: [1], onMiss: "load" } },
        { layer: 0, device, config: layerConfig, tensors: layerTensors("model.layers.{layer}") },
      ],
    },
    {
      name: "MoeLayer.save",
      args: [join(directory, "saved.safetensors")],
      call: noisy.save.bind(noisy),
      valid: [{ overwrite: true, ...transfer }],
    },
    {
      name: "registerFamily",
      args: [],
      call: (family) => registered(() => api.registerFamily(family as api.ModelFamily)),
      valid: [
        {
          modelType: "options_moe",
          architecture: "OptionsForCausalLM",
          recognizes: () => false,
          layerCount: () => 1,
          numbering: "one after another",
          hasExperts: () => true,
          config: () => layerConfig,
          prefix: () => "model",
          tensors: (prefix: string) => [layerTensors(prefix)],
        },
      ],
    },
    {
      name: "MoeModel.inspect",
      args: [],
      call: model.inspect.bind(model),
      valid: [{ layer: 0, tokens: [1, 3] }],
    },
    {
      name: "MoeModel.memory",
      args: [0],
      call: model.memory.bind(model),
      valid: [{ dtype: "f32", bank: { first: 1, count: 2 } }],
    },
    {
      name: "MoeModel.load",
      args: [0],
      call: model.load.bind(model),
      valid: [{ device, dtype: "f32", bank: { first: 1, count: 1 }, tokenFormat: "none", cache: false, ...transfer }],
    },
    {
      name: "MoeModel.loadAll",
      args: [],
      call: async (options) => disposeAll(await model.loadAll(options as api.LoadAllOptions)),
      valid: [{ device, layers: [0], concurrency: 1, dtype: { experts: "f32" }, ...transfer }],
    },
    {
      name: "MoeLayer.forward",
      args: [floats(T, H)],
      call: noisy.forward.bind(noisy),
      valid: [
        { routing: routing(), out: floats(T, H) },
        { training: { seed: 1 } },
        { save: true, recompute: true },
        { want: ["routing", "logits"] },
        { norm: { weight: floats(H), epsilon: 1e-5, offset: 1 }, residual: true },
        { residual: floats(T, H), signal: transfer.signal },
      ],
    },
    {
      name: "MoeLayer.backward",
      args: [],
      call: (options) =>
        trained.backward(trained.forward(floats(T, H), { save: true }).state, floats(T, H), options as Options),
      valid: [
        { gradients: trainedBefore, accumulate: true, experts: true },
        {
          gradLosses: {
            loadBalancingLoss: {
              factor: 0.1,
              scoring: "softmax",
              sequences: 1,
              choices: "all",
              normalization: "tokens",
              tokenMask,
            },
            zLoss: { factor: 0.1, tokenMask },
          },
        },
        { gradLosses: { loadBalancingLoss: 0.1, zLoss: 0.1 } },
      ],
    },
    {
      name: "AdamW",
      args: [[parameter]],
      call: (...args) => Reflect.construct(api.AdamW, args),
      valid: [{ learningRate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-6, weightDecay: 0.1, maxNorm: 1 }],
    },
    {
      name: "SGD",
      args: [[parameter]],
      call: (...args) => Reflect.construct(api.SGD, args),
      valid: [{ learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.1, maxNorm: 1 }],
    },
    {
      name: "linear",
      args: [floats(T, H), floats(4, H)],
      call: api.linear,
      valid: [{ bias: floats(4), activation: "swiglu", clamp: { alpha: 1, limit: 2, offset: 0 }, out: floats(T, 2) }],
    },
    {
      name: "linearBackward",
      args: [floats(T, H), floats(4, H), floats(T, 4)],
      call: api.linearBackward,
      valid: [
        { bias: true, accumulate: true, out: { dx: floats(T, H), dWeight: floats(4, H), dBias: floats(4) } },
        { bias: false },
      ],
    },
    { name: "squaredNorm", args: [[floats(T)]], call: api.squaredNorm, valid: [] },
    {
      name: "MoeLayer.route",
      args: [floats(T, H)],
      call: noisy.route.bind(noisy),
      valid: [{ training: { noise: floats(T, E) } }],
    },
    {
      name: "MoeLayer.trainingLogits",
      args: [floats(T, H)],
      call: deep.trainingLogits.bind(deep),
      valid: [{ noise: floats(T, E), groupNoise: floats(T, 2) }, { seed: 1 }],
    },
    {
      name: "MoeLayer.capture",
      args: [T],
      call: noisy.capture.bind(noisy),
      valid: [{ dtype: "f16", norm: { weight: floats(H), epsilon: 1e-5, offset: 1 }, residual: true }],
    },
    {
      name: "writeSafetensors",
      args: [join(directory, "new.safetensors"), tensors],
      call: writeSafetensors,
      valid: [{ metadata: { a: "b" }, alignment: 64, ...transfer }],
    },
    {
      name: "writeShardedSafetensors",
      args: [join(directory, "shards"), tensors],
      call: async (path, given, options) => {
        if (path === join(directory, "shards")) rmSync(path, { recursive: true, force: true });
        if (path === join(directory, "shards")) mkdirSync(path);
        return await writeShardedSafetensors(path, given, options);
      },
      valid: [{ metadata: { a: "b" }, alignment: 64, maximumShardBytes: 10, ...transfer }],
    },
    {
      name: "serializeSafetensors",
      args: [tensors],
      call: serializeSafetensors,
      valid: [{ metadata: {}, alignment: 64 }],
    },
    {
      name: "SafetensorsFile.open",
      args: [file],
      call: SafetensorsFile.open,
      valid: [{ signal: transfer.signal }],
    },
    {
      name: "ShardedCheckpoint.open",
      args: [checkpointFolder],
      call: ShardedCheckpoint.open,
      valid: [{ signal: transfer.signal }],
    },
    {
      name: "ShardedCheckpoint.find",
      args: [checkpointFolder],
      call: ShardedCheckpoint.find,
      valid: [{ signal: transfer.signal }],
    },
    { name: "GgufFile.open", args: [gguf], call: GgufFile.open, valid: [{ signal: transfer.signal }] },
    { name: "SplitGguf.open", args: [gguf], call: SplitGguf.open, valid: [{ signal: transfer.signal }] },
    { name: "GgufFile.read", args: ["x"], call: openedGguf.read.bind(openedGguf), valid: [transfer] },
    {
      name: "GgufFile.readRange",
      args: ["x", 0, new Uint8Array(1)],
      call: openedGguf.readRange.bind(openedGguf),
      valid: [transfer],
    },
    { name: "SafetensorsFile.read", args: ["x"], call: opened.read.bind(opened), valid: [transfer] },
    {
      name: "SafetensorsFile.readInto",
      args: ["x", new Uint8Array(1)],
      call: opened.readInto.bind(opened),
      valid: [transfer],
    },
    {
      name: "SafetensorsFile.readRange",
      args: ["x", 0, new Uint8Array(1)],
      call: opened.readRange.bind(opened),
      valid: [transfer],
    },
  ];

  const x = floats(T, H);
  const without: Written[] = [
    { name: "maximumViolation", args: [floats(E)], call: api.maximumViolation },
    { name: "readTotals", args: [integers(E, 2)], call: api.readTotals },
    { name: "isMoeError", args: [new Error("none"), "INTERNAL"], call: api.isMoeError },
    { name: "parseSafetensors", args: [serializeSafetensors(tensors)], call: parseSafetensors },
    { name: "SafetensorsFile.info", args: ["x"], call: opened.info.bind(opened) },
    { name: "GgufFile.info", args: ["x"], call: openedGguf.info.bind(openedGguf) },
    { name: "SplitGguf.fileOf", args: ["x"], call: split.fileOf.bind(split) },
    { name: "SplitGguf.has", args: ["x"], call: split.has.bind(split) },
    { name: "ShardedCheckpoint.fileOf", args: ["x"], call: checkpoint.fileOf.bind(checkpoint) },
    {
      name: "openModel",
      args: [modelFolder],
      call: async (path, options) => await (await api.openModel(path, options)).close(),
      valid: [{ signal: transfer.signal }],
    },
    { name: "MoeModel.layer", args: [0], call: model.layer.bind(model) },
    { name: "ShardedCheckpoint.has", args: ["x"], call: checkpoint.has.bind(checkpoint) },
    { name: "Device.tensor", args: [[[1, 2]], [2], "bf16"], call: device.tensor.bind(device) },
    // wrapPointer and fromDLPack are not here: they believe any address.
    {
      name: "Device.wrap",
      args: [new Float32Array(new SharedArrayBuffer(8)), [1, 2], "f32"],
      call: device.wrap.bind(device),
    },
    { name: "Device.empty", args: [[2, 3], "f16"], call: device.empty.bind(device) },
    { name: "Device.zeros", args: [[2, 3], "f16"], call: device.zeros.bind(device) },
    { name: "Tensor.write", args: [new Float32Array(T * H)], call: x.write.bind(x) },
    { name: "Tensor.readInto", args: [new Float32Array(T * H)], call: x.readInto.bind(x) },
    { name: "Tensor.readIntoSync", args: [new Float32Array(T * H)], call: x.readIntoSync.bind(x) },
    { name: "encodeHalves", args: [new Float32Array(T), "bf16"], call: api.encodeHalves },
    { name: "decodeHalves", args: [new Uint16Array(T), "f16"], call: api.decodeHalves },
    { name: "Tensor.reshape", args: [[H, T]], call: x.reshape.bind(x) },
    { name: "Tensor.rows", args: [1, 3], call: x.rows.bind(x) },
    { name: "MoeLayer.routerLogits", args: [floats(T, H)], call: noisy.routerLogits.bind(noisy) },
    { name: "MoeLayer.groupLogits", args: [floats(T, H)], call: deep.groupLogits.bind(deep) },
    { name: "ExpertOffload.prefetch", args: [[0, 1]], call: offloading.prefetch.bind(offloading) },
    { name: "MoeLayer.setSelectionBias", args: [floats(E)], call: biased.setSelectionBias.bind(biased) },
  ];

  const calls = [...withOptions, ...without].map((call) => ({ valid: [], after: [], ...call }));
  const close = async () => {
    await opened.close();
    await checkpoint.close();
    await model.close();
    await openedGguf.close();
    await split.close();
    simt.dispose();
  };
  return { calls, close };
}

/** The names of a layer's tensors, with all that a name can say. */
function layerTensors(prefix: string): api.LayerTensorNames {
  const expert = (name: string): api.NamedWeight => ({ name, orient: "out_in", stacked: "dim0", part: "even" });
  return {
    router: `${prefix}.gate`,
    experts: { gate: expert("a"), up: { ...expert("a"), part: "odd" }, down: "{e}.down", downBias: "{e}.bias" },
    shared: { gate: "gate", up: { name: "up", orient: "in_out", part: "first_half" }, down: "down" },
    sharedGate: { name: "shared_gate", orient: "out_in" },
  };
}

/** A family can be registered once. */
function registered(register: () => void): void {
  try {
    register();
  } catch (error) {
    if (!api.isMoeError(error) || !error.message.includes("one that is not known yet")) throw error;
  }
}

function disposeAll(layers: ReadonlyMap<number, api.MoeLayer>): void {
  for (const layer of layers.values()) layer.dispose();
}

/** Loading gets as far as the model, which does not exist. */
function noModel(error: unknown): void {
  if (!api.isMoeError(error, "BAD_CHECKPOINT")) throw error;
}
