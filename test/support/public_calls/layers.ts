import { join } from "node:path";
import * as api from "../../../lib/index.js";
import { capacity, E, H, type Options, type Part, rule, T, tensorsOf, transfer } from "./call.js";

/** Layers of every kind, saved to `directory`. */
export function layerCalls(device: api.Device, directory: string): Part {
  const { floats, integers, routing, tokenMask } = tensorsOf(device);
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

  const gemma = {
    ...plain,
    separateRouterInput: true,
    routerNorm: { epsilon: 1e-6, scale: 0.5 },
    routerNormWeight: weight(H),
    perExpertScale: true,
    expertScale: weight(E),
  };
  const latent = {
    ...plain,
    latent: { size: H, norm: { epsilon: 1e-6 } },
    latentDown: weight(H, H),
    latentUp: weight(H, H),
    latentNormWeight: weight(H),
    dtype: { latent: "int8" },
  };
  const hashed = {
    ...plain,
    scoring: "sqrt_softplus",
    hashRouting: { vocabularySize: 3 },
    expertTable: integers(3, 2),
  };
  const lookedUp = api.MoeLayer.create(hashed as Options);
  const own = api.MoeLayer.create(gemma as Options);
  const deep = api.MoeLayer.create(hierarchical as Options);
  const biased = api.MoeLayer.create({ ...plain, selectionBias: floats(E) } as Options);

  const trained = api.MoeLayer.create(plain as Options);
  const [x, dy] = [floats(T, H), floats(T, H)];
  const backward = (options: Options = {}) => {
    const { y, state } = trained.forward(x, { save: true });
    y.dispose();
    return trained.backward(state, dy, options);
  };
  const trainedBefore = backward().gradients;
  return {
    calls: [
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
            sharedExpert: { intermediateSize: 2, gate: "sigmoid", clamp: { limit: 3 } },
            shared: { gate: floats(2, H), up: weight(2, H), down: floats(H, 2) },
            sharedGate: weight(1, H),
            sharedGateBias: weight(1),
            capacity,
          },
          { ...plain, multiplier: true, experts: Array.from({ length: E }, one), routerJitter: 0.1 },
          { ...plain, topK: E, expertChoice: { tokens: 1 } },
          { ...plain, identityExperts: 1, experts: Array.from({ length: E - 1 }, one), multiplier: true },
          hierarchical,
          gemma,
          latent,
          hashed,
          { ...plain, scoring: "sparsemixer", jitter: 0.1 },
          { ...plain, dtype: "int8", quantize: { scale: "least_squares" } },
        ],
      },
      {
        name: "MoeLayer.forward",
        args: [floats(T, H)],
        call: noisy.forward.bind(noisy),
        valid: [
          { routing: routing(), out: floats(T, H) },
          { training: { seed: 1 } },
          { save: true, recompute: true },
          { save: true, offload: true },
          { want: ["routing", "logits"] },
          { norm: { weight: floats(H), epsilon: 1e-5, offset: 1 }, residual: true, out: floats(T, H) },
          { residual: floats(T, H), signal: transfer.signal, out: floats(T, H) },
          { expertIds: integers(T, 2), logits: floats(T, E), out: floats(T, H) },
        ],
      },
      {
        name: "MoeLayer.forward with a router that reads other tokens",
        args: [floats(T, H)],
        call: own.forward.bind(own),
        valid: [{ routerInput: floats(T, H), out: floats(T, H) }],
      },
      {
        name: "MoeLayer.forward with noise",
        args: [floats(T, H)],
        call: deep.forward.bind(deep),
        valid: [{ training: { noise: floats(T, E), groupNoise: floats(T, 2) }, out: floats(T, H) }],
      },
      {
        name: "MoeLayer.forward with token ids",
        args: [floats(T, H)],
        call: lookedUp.forward.bind(lookedUp),
        valid: [{ tokenIds: integers(T) }, { tokenIds: Array.from({ length: T }, () => 2) }],
      },
      {
        name: "MoeLayer.backward",
        args: [],
        call: backward,
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
        name: "MoeLayer.parameters",
        args: [],
        call: trained.parameters.bind(trained),
        valid: [{ experts: true }, { experts: false }],
      },
      {
        name: "MoeLayer.route",
        args: [floats(T, H)],
        call: noisy.route.bind(noisy),
        valid: [{ training: { noise: floats(T, E) } }, { expertIds: integers(T, 2), logits: floats(T, E) }],
      },
      {
        name: "MoeLayer.route with token ids",
        args: [floats(T, H)],
        call: lookedUp.route.bind(lookedUp),
        valid: [{ tokenIds: integers(T) }],
      },
      {
        name: "MoeLayer.trainingLogits",
        args: [floats(T, H)],
        call: deep.trainingLogits.bind(deep),
        valid: [{ noise: floats(T, E), groupNoise: floats(T, 2) }, { seed: 1 }],
      },
      { name: "MoeLayer.routerLogits", args: [floats(T, H)], call: noisy.routerLogits.bind(noisy) },
      { name: "MoeLayer.groupLogits", args: [floats(T, H)], call: deep.groupLogits.bind(deep) },
      { name: "MoeLayer.setSelectionBias", args: [floats(E)], call: biased.setSelectionBias.bind(biased) },
      {
        name: "MoeLayer.capture",
        args: [T],
        call: noisy.capture.bind(noisy),
        valid: [
          {
            dtype: "f16",
            norm: { weight: floats(H), epsilon: 1e-5, offset: 1 },
            residual: true,
            expertIds: true,
            logits: true,
          },
        ],
      },
      {
        name: "MoeLayer.save",
        args: [join(directory, "saved.safetensors")],
        call: noisy.save.bind(noisy),
        valid: [{ overwrite: true, ...transfer }],
      },
    ],
  };
}
