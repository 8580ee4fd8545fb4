// Times every operator and the layer on one GPU device: node scripts/gpu/bench.mjs cuda|simt. Weights and tokens take turns so that
// none is found in a cache. A sample is a row of calls between two waits, so the time of a call has its share of the
// host's work where that is the longer; the layer's stages are timed by the device.
import { layerCases } from "../../build/bench/layer.js";
import { operatorCases } from "../../build/bench/operators.js";
import { openDevice } from "../../dist/index.js";
import { shapes } from "../../dist/testing/shapes.js";

const plans = {
  cuda: {
    shapes: ["Qwen3-30B-A3B", "OLMoE-1B-7B", "Mixtral-8x7B"],
    tokens: [1, 8, 64, 512, 4096],
    samples: 9,
    calls: 20,
  },
  // To exercise the script.
  simt: { shapes: ["D"], tokens: [1, 8], samples: 1, calls: 1 },
};

const name = process.argv[2];
const plan = plans[name];
const device = openDevice(name);
console.log(`${device.description}\n${plan.samples} samples of ${plan.calls} calls, bf16, median`);
console.log(row("shape", "operator", "T", "µs", "TFLOP/s", "GB/s"));
for (const shape of plan.shapes) {
  for (const cases of [layerCases, operatorCases]) {
    for await (const benchCase of cases(device, shapes[shape], "bf16", plan.tokens)) await time(shape, benchCase);
  }
}
device.dispose();

async function time(shape, { operator, tokens, operations, bytes, enqueue }) {
  const sample = async () => {
    await device.synchronize();
    const begin = performance.now();
    for (let call = 0; call < plan.calls; call++) enqueue();
    await device.synchronize();
    return ((performance.now() - begin) / plan.calls) * 1000;
  };
  await sample();
  const samples = [];
  for (let index = 0; index < plan.samples; index++) samples.push(await sample());
  const median = samples.sort((a, b) => a - b)[samples.length >> 1];
  const rate = (amount, unit) => (amount / (median * 1e-6) / unit).toPrecision(3);
  console.log(
    row(shape, operator, tokens, median.toFixed(1), operations > 0 ? rate(operations, 1e12) : "", rate(bytes, 1e9)),
  );
}

function row(shape, operator, tokens, ...numbers) {
  return `${shape.padEnd(15)} ${operator.padEnd(22)} ${String(tokens).padStart(6)} ${numbers.map((text) => text.padStart(10)).join(" ")}`;
}
