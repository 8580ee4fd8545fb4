import { join } from "node:path";
import * as api from "../../../lib/index.js";
import { writeRandomModel } from "../../checkpoint/support/random_model.js";
import { type Part, transfer } from "./call.js";

type LoadArguments = Parameters<typeof api.MoeLayer.load>;

/** Models in `directory` and their families. */
export async function modelCalls(device: api.Device, directory: string): Promise<Part> {
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
  return {
    calls: [
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
        name: "openModel",
        args: [modelFolder],
        call: async (path, options) => await (await api.openModel(path, options)).close(),
        valid: [{ signal: transfer.signal }],
      },
      { name: "MoeModel.layer", args: [0], call: model.layer.bind(model) },
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
        name: "MoeModel.weight",
        args: ["model.embed_tokens.weight"],
        call: (name, options) => model.weight(name as string, options as api.ModelWeightOptions).catch(noModel),
        valid: [{ device, shape: [3, 4], ...transfer }],
      },
      { name: "MoeModel.hasWeight", args: ["lm_head.weight"], call: model.hasWeight.bind(model) },
      {
        name: "MoeModel.loadAll",
        args: [],
        call: async (options) => disposeAll(await model.loadAll(options as api.LoadAllOptions)),
        valid: [{ device, layers: [0], concurrency: 1, dtype: { experts: "f32" }, ...transfer }],
      },
    ],
    close: () => model.close(),
  };
}

/** The names of a layer's tensors, with all that a name can say. */
function layerTensors(prefix: string): api.LayerTensorNames {
  const expert = (name: string): api.NamedWeight => ({ name, orient: "out_in", stacked: "dim0", part: "even" });
  return {
    router: `${prefix}.gate`,
    experts: { gate: expert("a"), up: { ...expert("a"), part: "odd" }, down: "{e}.down", downBias: "{e}.bias" },
    shared: {
      gate: "gate",
      up: { name: "up", orient: "in_out", part: "first_half" },
      down: { name: "down", factor: 0.5 },
    },
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
