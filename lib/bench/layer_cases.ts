import type { Device } from "../core/device/device.js";
import { countedRows, layerWork } from "../layer/work.js";
import type { MoeLayer } from "../moe_layer.js";
import { randomLayer, randomTokens } from "../testing/inputs/random_layer.js";
import type { SubjectInputs } from "../testing/subject/subject.js";
import { tokensPerExpert } from "../testing/tokens_per_expert.js";
import { type BenchCase, type CaseOptions, inputCount, mean, rotation, whyIncomparable } from "./bench_case.js";
import { layerCalls } from "./contenders/layer_calls.js";
import { layerArrays } from "./weights/layer_weights.js";

/** The whole layer, router included, at each number of tokens. Frees its tensors when the iteration ends. */
export async function* layerCases(device: Device, options: CaseOptions): AsyncGenerator<BenchCase> {
  const { config, format, tokenFormat, tokenCounts, weightBytes } = options;
  const layers: MoeLayer[] = [];
  let arrays: readonly SubjectInputs[] | undefined;
  /** The weights for contenders, made when they are first asked for, or anew. */
  const weights = (anew?: boolean) => {
    if (anew) arrays = undefined;
    arrays ??= layers.map((_, copy) => layerArrays(device, config, format, copy));
    return arrays;
  };
  try {
    do layers.push(await randomLayer(device, config, format, layers.length, () => {}, tokenFormat));
    while (layers.length * (layers[0] as MoeLayer).byteLength < weightBytes);
    for (const tokens of tokenCounts) yield* casesOf(layers, options, tokens, weights);
  } finally {
    for (const layer of layers) layer.dispose();
  }
}

async function* casesOf(
  layers: readonly MoeLayer[],
  options: CaseOptions,
  tokens: number,
  weights: (anew?: boolean) => readonly SubjectInputs[],
): AsyncGenerator<BenchCase> {
  const { dtype } = options;
  const [{ device, description }] = layers as [MoeLayer];
  const { hiddenSize } = description;
  const calls = Array.from({ length: Math.max(inputCount(tokens), layers.length) }, (_, index) => ({
    layer: layers[index % layers.length] as MoeLayer,
    x: device.tensor(randomTokens(tokens, hiddenSize, index), [tokens, hiddenSize], dtype),
  }));
  using out = device.empty([tokens, hiddenSize], dtype);
  const enqueue = ({ layer, x }: (typeof calls)[number]): void => {
    layer.forward(x, { out });
  };
  try {
    const works = await Promise.all(
      calls.map(async ({ layer, x }) => {
        const load = countedRows(tokens, await tokensPerExpert(layer, x));
        return layerWork(description, load, dtype);
      }),
    );
    const next = rotation(calls);
    yield {
      ...{ name: "layer", operator: "layer", tokens },
      operations: mean(works.map(({ operations }) => operations)),
      bytes: mean(works.map(({ weightBytes, activationBytes }) => weightBytes + activationBytes)),
      enqueue: () => enqueue(next()),
      async firstOutputs() {
        enqueue(calls[0] as (typeof calls)[number]);
        return { y: await out.data() };
      },
      incomparable: whyIncomparable(options) ?? whyNotDrawn(options),
      contenderCalls: (anew) => layerCalls(options, description, weights(anew), tokens),
    };
  } finally {
    for (const { x } of calls) x.dispose();
  }
}

/** Parts of layers whose weights are not drawn. */
const notDrawn = ["sharedExpert", "hierarchy", "noisy"] as const;

function whyNotDrawn({ config }: CaseOptions): string | null {
  const missing = notDrawn.filter((part) => config[part]);
  return missing.length === 0 ? null : `no weights are drawn for ${missing.join(", ")}`;
}
