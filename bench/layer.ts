import type { Device } from "#lib/core/device.js";
import type { FloatDType } from "#lib/core/dtype.js";
import { countedRows, layerWork } from "#lib/layer/work.js";
import type { MoeLayer } from "#lib/moe_layer.js";
import { randomLayer, randomTokens } from "#lib/testing/random_layer.js";
import { tokensPerExpert } from "#lib/testing/tokens_per_expert.js";
import { type BenchCase, type CaseOptions, inputCount, mean, rotation } from "./case.js";

/** The whole layer, router included, at each number of tokens. Frees its tensors when the iteration ends. */
export async function* layerCases(
  device: Device,
  { config, dtype, tokenCounts, weightBytes }: CaseOptions,
): AsyncGenerator<BenchCase> {
  const layers: MoeLayer[] = [];
  try {
    do layers.push(await randomLayer(device, config, dtype, layers.length));
    while (layers.length * (layers[0] as MoeLayer).byteLength < weightBytes);
    for (const tokens of tokenCounts) yield* casesOf(layers, tokens, dtype);
  } finally {
    for (const layer of layers) layer.dispose();
  }
}

async function* casesOf(layers: readonly MoeLayer[], tokens: number, dtype: FloatDType): AsyncGenerator<BenchCase> {
  const [{ device, description }] = layers as [MoeLayer];
  const { hiddenSize } = description;
  const calls = Array.from({ length: Math.max(inputCount(tokens), layers.length) }, (_, index) => ({
    layer: layers[index % layers.length] as MoeLayer,
    x: device.tensor(randomTokens(tokens, hiddenSize, index), [tokens, hiddenSize], dtype),
  }));
  using out = device.empty([tokens, hiddenSize], dtype);
  try {
    const works = await Promise.all(
      calls.map(async ({ layer, x }) => {
        const load = countedRows(tokens, await tokensPerExpert(layer, x));
        return layerWork(description, load, dtype);
      }),
    );
    const next = rotation(calls);
    yield {
      operator: "layer",
      tokens,
      operations: mean(works.map(({ operations }) => operations)),
      bytes: mean(works.map(({ weightBytes, activationBytes }) => weightBytes + activationBytes)),
      enqueue() {
        const { layer, x } = next();
        layer.forward(x, { out });
      },
    };
  } finally {
    for (const { x } of calls) x.dispose();
  }
}
