// Times every operator and the layer on one GPU device: node scripts/gpu/bench.mjs DEVICE PLAN, where PLAN is a plan of
// plan.mjs as JSON. Calls rotate through weights and tokens, so that none are found in a cache. A sample is a series of
// calls between two waits, so a call's time is that of the host's work if this takes longer than the device's.
import { layerCases } from "../../build/bench/layer.js";
import { operatorCases } from "../../build/bench/operators.js";
import { openDevice } from "../../dist/index.js";

const [, , name, json] = process.argv;
const plan = JSON.parse(json);
const device = openDevice(name);
console.log(`${device.description}\n${plan.samples} samples of ${plan.calls} calls, bf16, median`);
console.log(row("shape", "operator", "T", "µs", "TFLOP/s", "GB/s"));
for (const [shape, config] of Object.entries(plan.shapes)) {
  const options = { config, dtype: "bf16", tokenCounts: plan.tokens, weightBytes: plan.weightBytes };
  for (const cases of [layerCases, operatorCases]) {
    for await (const benchCase of cases(device, options)) await time(shape, benchCase);
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
