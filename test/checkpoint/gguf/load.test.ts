import { describe, expect, test } from "vitest";
import { blockTypes } from "../../../lib/checkpoint/gguf/blocks/convert.js";
import type { Device } from "../../../lib/core/device/device.js";
import { mostBitsPerWeight, weightFormat } from "../../../lib/core/formats/weight_formats.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import type { GgufInput, TensorInput } from "../../support/gguf.js";
import { blockDecoders, type DecodedType, readOnlyTypes } from "../../support/gguf_blocks.js";
import { memoized } from "../../support/memoized.js";
import { type RandomLayer, randomLayer, writeOne, writeSplit } from "../support/gguf_layer.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const types = Object.keys(blockDecoders) as DecodedType[];
const tokens = 5;
const reference = openForTests("reference");

/** A random layer and its tokens, and what it computes with the values of its blocks, in float64. */
const problem = memoized((seed: string, given: string) => {
  const options = JSON.parse(given) as RandomLayer;
  const random = new Random(seed);
  const layer = randomLayer(random, options);
  const x = Float64Array.from(random.normals(tokens * layer.sizes.hidden), Math.fround);
  return { layer, x, wanted: expected(layer, options, x) };
});

function expected(
  { values, sizes }: ReturnType<typeof randomLayer>,
  options: RandomLayer,
  x: Float64Array,
): Float64Array {
  const { hidden, inner, experts, shared } = sizes;
  const device = reference();
  const tensor = (data: Float64Array, ...shape: number[]) => device.tensor(data, shape, "f64");
  const decoded = new Map(Array.from(values, ([name, decode]) => [name, decode()]));
  const whole = (name: string) => decoded.get(name) as Float64Array;
  const part = (matrix: string, e: number, size: number, first = 0, step = size) =>
    options.single
      ? whole(`ffn_${matrix}.${e}.weight`)
      : whole(`ffn_${matrix}_exps.weight`).slice(e * step + first, e * step + first + size);
  const size = inner * hidden;
  const list = Array.from({ length: experts }, (_, e) => ({
    gate: tensor(options.fused ? part("gate_up", e, size, 0, 2 * size) : part("gate", e, size), inner, hidden),
    up: tensor(options.fused ? part("gate_up", e, size, size, 2 * size) : part("up", e, size), inner, hidden),
    down: tensor(part("down", e, size), hidden, inner),
  }));
  using layer = MoeLayer.create({
    device,
    hiddenSize: hidden,
    intermediateSize: inner,
    numExperts: experts,
    topK: 2,
    normalize: shared === 0,
    activation: options.gemma ? "geglu_tanh" : "swiglu",
    ...(options.gemma && {
      separateRouterInput: true,
      routerNorm: { epsilon: Math.fround(1e-6), scale: hidden ** -0.5 },
      routerNormWeight: tensor(whole("ffn_gate_inp.scale"), hidden),
      perExpertScale: true,
      expertScale: tensor(whole("ffn_down_exps.scale"), experts),
    }),
    router: tensor(whole("ffn_gate_inp.weight"), experts, hidden),
    experts: list,
    ...(shared > 0 && {
      sharedExpert: { intermediateSize: shared, gate: "sigmoid" },
      shared: {
        gate: tensor(whole("ffn_gate_shexp.weight"), shared, hidden),
        up: tensor(whole("ffn_up_shexp.weight"), shared, hidden),
        down: tensor(whole("ffn_down_shexp.weight"), hidden, shared),
      },
      sharedGate: tensor(whole("ffn_gate_inp_shexp.weight"), 1, hidden),
    }),
  });
  const input = tensor(x, tokens, hidden);
  return Float64Array.from(layer.forward(input, options.gemma ? { routerInput: input } : {}).dataSync());
}

async function compare(device: Device, options: RandomLayer, write = writeOne, seed = "gguf") {
  using directory = temporaryDirectory();
  const { layer, x, wanted } = problem(seed, JSON.stringify(options));
  const path = write(directory.path, layer.file);
  using loaded = await MoeLayer.load(path, { layer: 0, device });
  using input = device.tensor(Float32Array.from(x), [tokens, layer.sizes.hidden]);
  using y = loaded.forward(input, options.gemma ? { routerInput: input } : {});
  expect(wanted.every(Number.isFinite) && wanted.some((value) => value !== 0)).toBe(true);
  expect(relativeError(await y.data(), wanted)).toBeLessThanOrEqual(1e-5);
  return { formats: loaded.description.formats };
}

/** The bytes of a layer on the device and in its file. */
async function measure(device: Device, options: RandomLayer) {
  using directory = temporaryDirectory();
  const { file } = randomLayer(new Random("bytes"), options);
  using layer = await MoeLayer.load(writeOne(directory.path, file), { layer: 0, device });
  await device.synchronize();
  const stored = file.tensors.reduce((sum, { data }) => sum + (data as Uint8Array).length, 0);
  return { stored, bytes: layer.byteLength };
}

describe.each(deviceNames)("GGUF files on %s", (name) => {
  const device = openForTests(name);

  test.each(types)("%s, kept as it is", async (type) => {
    const format = blockTypes.get(type)?.format;
    const { formats } = await compare(device(), { gate: type });
    expect(formats).toMatchObject({ router: "f32", gate: format, up: format, down: format });
  });

  test.each(name === "reference" ? [] : types)("%s in as many bytes, or a code for each element", async (type) => {
    // Sizes that no instruction set of the CPU pads. One expert more, since a router of few experts is mostly padding.
    const sizes = name === "cpu" ? { hidden: 768, inner: 768 } : {};
    const [some, more] = [2, 3].map((experts) => ({ ...sizes, gate: type, experts })) as [RandomLayer, RandomLayer];
    const before = await measure(device(), some);
    const after = await measure(device(), more);
    const grown = after.bytes - before.bytes;
    if (!readOnlyTypes.includes(type)) expect(grown).toBeLessThanOrEqual(1.05 * (after.stored - before.stored));
    const weights = 3 * (sizes.hidden ?? 256) * (sizes.inner ?? 256);
    const bits = mostBitsPerWeight(weightFormat(blockTypes.get(type)?.format as string), 256);
    expect((8 * grown) / weights).toBeLessThanOrEqual(1.05 * bits);
  });

  test("down, gate and up of different types", async () => {
    const { formats } = await compare(device(), { gate: "Q4_K", up: "IQ4_XS", down: "Q6_K" });
    expect(formats).toMatchObject({ gate: "q4_k", up: "iq4_xs", down: "q6_k" });
    await compare(device(), { gate: "Q4_K", up: "F16", down: "Q5_0" });
  });

  test("gate and up in one tensor, and a tensor for each expert", async () => {
    await compare(device(), { gate: "Q5_K", fused: true });
    await compare(device(), { gate: "Q8_0", single: true });
  });

  test("floats keep their types, whatever the router's is", async () => {
    const { formats } = await compare(device(), { gate: "F16", down: "F32" });
    expect(formats).toMatchObject({ router: "f32", gate: "f16", up: "f16", down: "f32" });
  });

  test("sizes that are no multiples of 256", async () => {
    await compare(device(), { hidden: 96, inner: 160, gate: "Q5_1", down: "IQ4_NL" });
    await compare(device(), { hidden: 64, inner: 192, gate: "NVFP4" });
  });

  test("a scale for each expert's matrix", async () => {
    await compare(device(), { gate: "NVFP4", scaled: true });
    // Quantised again from NVFP4.
    const { formats } = await compare(device(), { gate: "Q4_K", up: "F16", down: "F32", scaled: true });
    expect(formats).toMatchObject({ router: "f32", gate: "f32", up: "f32", down: "f32" });
    await compare(device(), { gate: "Q8_0", fused: true, scaled: true });
  });

  test("what llama.cpp saves for what files did not say", async () => {
    const saved = {
      expert_feed_forward_length: 0,
      feed_forward_length: 512,
      expert_weights_norm: false,
      expert_weights_scale: { type: "f32", value: 0 } as const,
      ...{ expert_gating_func: 0, expert_group_count: 0, expert_group_used_count: 0, expert_shared_count: 0 },
    };
    const metadata = Object.fromEntries(Object.entries(saved).map(([key, value]) => [`qwen3moe.${key}`, value]));
    await compare(device(), { gate: "Q4_K", metadata });
  });

  test.each(["Q4_K", "NVFP4"] as const)("scales of experts that are the router's, beside %s", async (type) => {
    const { formats } = await compare(device(), { gate: type, fused: true, gemma: true });
    expect(formats).toMatchObject({ down: blockTypes.get(type)?.format });
  });

  test("split files", async () => {
    await compare(device(), { gate: "Q3_K", down: "Q5_K" }, writeSplit);
  });

  test("a shared expert of the experts' types keeps them", async () => {
    const { formats } = await compare(device(), { gate: "Q4_K", shared: 512 });
    expect(formats).toMatchObject({ gate: "q4_k", up: "q4_k", down: "q4_k" });
  });

  test("a shared expert of other types keeps them", async () => {
    const { formats } = await compare(device(), { gate: "Q4_K", shared: 256, sharedType: "Q8_0" });
    const [experts, shared] = ["q4_k", blockTypes.get("Q8_0")?.format];
    expect(formats).toMatchObject({ gate: experts, up: experts, down: experts });
    expect(formats.shared).toMatchObject({ gate: shared, up: shared, down: shared });
  });

  test("a wide shared expert that is cut inside its blocks, whose down becomes float32", async () => {
    const sizes = { hidden: 256, inner: 128, shared: 256 };
    const { formats } = await compare(device(), { ...sizes, gate: "Q4_K", down: "Q8_0" });
    expect(formats).toMatchObject({ gate: "q4_k", up: "q4_k", down: "i8_g32_f16" });
    expect(formats.shared).toMatchObject({ gate: "q4_k", up: "q4_k", down: "f32" });
  });
});

describe("options", () => {
  const open = (options: RandomLayer = {}) => randomLayer(new Random("options"), options);

  async function load(file: GgufInput, options: Record<string, unknown> = {}) {
    using directory = temporaryDirectory();
    return await MoeLayer.load(writeOne(directory.path, file), { layer: 0, device: reference(), ...options });
  }

  test("a dtype dequantises, for all roles or some", async () => {
    using all = await load(open().file, { dtype: "bf16" });
    expect(all.description.formats).toMatchObject({ router: "bf16", gate: "bf16", down: "bf16" });
    using some = await load(open().file, { dtype: { down: "f32" } });
    expect(some.description.formats).toMatchObject({ router: "f32", gate: "q4_k", down: "f32" });
    using shared = await load(open({ shared: 256, sharedType: "Q8_0" }).file, { dtype: { experts: "bf16" } });
    expect(shared.description.formats).toMatchObject({ router: "f32", gate: "bf16", down: "bf16" });
  });

  test("a bank reads its experts' bytes only, and progress counts them", async () => {
    const { file } = open();
    const sizeOf = ({ data }: TensorInput) => (data as Uint8Array).length;
    const [router, ...matrices] = file.tensors.map(sizeOf) as [number, ...number[]];
    const wanted = router + matrices.reduce((sum, size) => sum + size, 0) / 3;
    const seen: number[] = [];
    const onProgress = (progress: { bytesRead: number; bytesTotal: number }) => {
      seen.push(progress.bytesRead);
      expect(progress.bytesTotal).toBe(wanted);
    };
    using half = await load(file, { bank: { first: 2, count: 1 }, onProgress });
    expect(half.description.bank).toEqual({ first: 2, count: 1 });
    expect(seen.at(-1)).toBe(wanted);
  });

  test("stops at a signal", async () => {
    await expect(load(open().file, { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
  });
});

describe("what cannot be loaded is named", () => {
  /** Loads a layer whose file was changed. */
  async function loadChanged(
    change: (file: GgufInput & { tensors: TensorInput[] }) => GgufInput,
    options: RandomLayer = {},
  ) {
    using directory = temporaryDirectory();
    const { file } = randomLayer(new Random("bad"), options);
    const path = writeOne(directory.path, change(file));
    using layer = await MoeLayer.load(path, { layer: 0, device: reference() });
    expect(layer).toBeUndefined();
  }
  const metadata = (more: Record<string, unknown>) => (file: GgufInput) =>
    ({ ...file, metadata: { ...file.metadata, ...more } }) as GgufInput;
  const replaced = (name: string, more: Partial<TensorInput>) => (file: GgufInput) => ({
    ...file,
    tensors: file.tensors?.map((tensor) => (tensor.name === `blk.0.${name}` ? { ...tensor, ...more } : tensor)) ?? [],
  });
  const without = (name: string) => (file: GgufInput) => ({
    ...file,
    tensors: file.tensors?.filter((tensor) => tensor.name !== `blk.0.${name}`) ?? [],
  });
  const more = (tensor: TensorInput) => (file: GgufInput) => ({ ...file, tensors: [...(file.tensors ?? []), tensor] });
  const moreNvfp4 = (tensor: TensorInput) => (file: GgufInput) =>
    more(tensor)(replaced("ffn_up_exps.weight", zeros("NVFP4", 3, 256, 256))(file));
  const down = "ffn_down_exps.weight";
  const zeros = (type: TensorInput["type"], ...shape: number[]): Partial<TensorInput> => ({
    type,
    shape,
    data: undefined as never,
  });

  test.each<[string, (file: GgufInput & { tensors: TensorInput[] }) => GgufInput, RegExp]>([
    [
      "an unknown architecture",
      metadata({ "general.architecture": "t5" }),
      /general\.architecture: expected a known model family, got "t5"; .* MoeLayer\.load\(path, \{ config, tensors \}\)\. `moe-kernels info/,
    ],
    [
      "no architecture",
      () => ({ metadata: {} }),
      /general\.architecture: expected a known model family, got none; say /,
    ],
    [
      "a missing key",
      metadata({ "qwen3moe.expert_count": { type: "string", value: "3" } }),
      /qwen3moe\.expert_count: expected an integer >= 1, got "3"/,
    ],
    [
      "no number of layers",
      metadata({ "qwen3moe.block_count": 0 }),
      /qwen3moe\.block_count: expected an integer >= 1, got 0/,
    ],
    [
      "too many layers",
      metadata({ "qwen3moe.block_count": 2 ** 31 }),
      /qwen3moe\.block_count: expected at most 4096, got 2147483648/,
    ],
    ["more choices than experts", metadata({ "qwen3moe.expert_used_count": 4 }), /model\.gguf: .*topK/],
    [
      "another gating",
      metadata({ "qwen3moe.expert_gating_func": 2 }),
      /expert_gating_func: expected 1 \(softmax\), got 2/,
    ],
    [
      "another normalisation",
      metadata({ "general.architecture": "olmoe", "olmoe.block_count": 1, "olmoe.expert_weights_norm": true }),
      /olmoe\.expert_weights_norm: expected false, got true/,
    ],
    [
      "a scale of weights that the formula lacks",
      metadata({ "qwen3moe.expert_weights_scale": { type: "f32", value: 2.5 } }),
      /expert_weights_scale: expected 1, got 2\.5/,
    ],
    [
      "groups that the formula lacks",
      metadata({ "qwen3moe.expert_group_count": 4 }),
      /expert_group_count: expected 1, got 4/,
    ],
    ["a missing tensor", without(down), /expected a tensor "blk\.0\.ffn_down_exps\.weight", got none of that name/],
    [
      "sizes that are not the metadata's",
      metadata({ "qwen3moe.embedding_length": 512 }),
      /"blk\.0\.ffn_gate_inp\.weight": expected shape \[3, 512\] from the sizes in .*model\.gguf, got \[3, 256\]/,
    ],
    [
      "another number of experts in one tensor",
      replaced(down, zeros("Q4_K", 2, 256, 256)),
      /ffn_down_exps\.weight": expected shape \[3, 256, 256\] .*, got \[2, 256, 256\]/,
    ],
    [
      "a type that is not converted",
      replaced(down, zeros("Q8_K", 3, 256, 256)),
      /ffn_down_exps\.weight": expected one of the types F32, F16, BF16, Q4_0, .*NVFP4, .*IQ3_S, .*got Q8_K/,
    ],
    ["integers", replaced(down, zeros("I8", 3, 256, 256)), /expected one of the types .*, got I8/],
    [
      "a quantised bias",
      more({ name: "blk.0.ffn_down_exps.bias", type: "Q8_0", shape: [3, 256] }),
      /ffn_down_exps\.bias": expected one of the types F32, F16, BF16, got Q8_0/,
    ],
    [
      "a bias of another shape",
      more({ name: "blk.0.ffn_down_exps.bias", type: "F32", shape: [3, 32] }),
      /ffn_down_exps\.bias": expected shape \[3, 256\]/,
    ],
    [
      "a scale of another type",
      moreNvfp4({ name: "blk.0.ffn_up_exps.scale", type: "F16", shape: [3] }),
      /ffn_up_exps\.scale": expected type F32, got F16/,
    ],
    [
      "a scale of another shape",
      moreNvfp4({ name: "blk.0.ffn_up_exps.scale", type: "F32", shape: [2] }),
      /ffn_up_exps\.scale": expected shape \[3\]/,
    ],
    [
      "a scale that is no number",
      moreNvfp4({ name: "blk.0.ffn_up_exps.scale", type: "F32", shape: [3], data: new Uint8Array(12).fill(255) }),
      /ffn_up_exps\.weight": scale: expected a finite number, got NaN/,
    ],
    [
      "scales in blocks that are no numbers",
      replaced(down, { data: new Uint8Array(3 * 256 * 144).fill(255) }),
      /ffn_down_exps\.weight": superScales: expected finite float16 values, got the bits 0xffff at 0/,
    ],
    [
      "a dense block beside the experts",
      more({ name: "blk.0.ffn_up.weight", type: "F32", shape: [256, 256] }),
      /expected no other tensors in a layer with experts, got "blk\.0\.ffn_up\.weight"/,
    ],
    [
      "biases of a shared expert",
      more({ name: "blk.0.ffn_up_shexp.bias", type: "F32", shape: [256] }),
      /expected no other tensors in a layer with experts, got "blk\.0\.ffn_up_shexp\.bias"/,
    ],
    [
      "a projection to fewer dimensions",
      more({ name: "blk.0.ffn_latent_down.weight", type: "F32", shape: [256, 256] }),
      /expected no other tensors in a layer with experts, got "blk\.0\.ffn_latent_down\.weight"/,
    ],
    [
      "a shared expert that the formula lacks",
      more({ name: "blk.0.ffn_up_shexp.weight", type: "F32", shape: [256, 256] }),
      /expected no shared expert according to the metadata, got a tensor "blk\.0\.ffn_up_shexp\.weight"/,
    ],
    [
      "a shared expert's gate that the formula lacks",
      more({ name: "blk.0.ffn_gate_inp_shexp.weight", type: "F32", shape: [256] }),
      /expected no other tensors in a layer with experts, got "blk\.0\.ffn_gate_inp_shexp\.weight"/,
    ],
  ])("%s", async (_what, change, message) => {
    await expectRejection(loadChanged(change), "BAD_CHECKPOINT", message);
  });

  test("a layer without experts, and one that is not there", async () => {
    using directory = temporaryDirectory();
    const { file } = randomLayer(new Random("bad"), { metadata: { "qwen3moe.block_count": 2 } });
    const path = writeOne(directory.path, file);
    const load = (layer: number) => MoeLayer.load(path, { layer, device: reference() });
    await expectRejection(load(1), "INVALID_ARGUMENT", /layer: expected a layer with experts \(0\), got 1/);
    await expectRejection(load(2), "INVALID_ARGUMENT", /layer/);
  });
});
