import * as api from "../../../lib/index.js";
import { type Part, T, tensorsOf } from "./call.js";

/** Steps over parameters. */
export function optimizerCalls(device: api.Device): Part {
  const { floats } = tensorsOf(device);
  const parameter = { name: "p", value: floats(T), gradient: floats(T) };
  const adam = new api.AdamW([parameter], { learningRate: 0.1 });
  return {
    calls: [
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
      { name: "Optimizer.step", args: [], call: adam.step.bind(adam) },
      { name: "Optimizer.load", args: [adam.state()], call: adam.load.bind(adam) },
      { name: "squaredNorm", args: [[floats(T)]], call: api.squaredNorm, valid: [] },
    ],
  };
}
