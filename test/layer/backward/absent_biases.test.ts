import { expect, test } from "vitest";
import { shapeSize } from "../../../lib/core/tensors/shape.js";
import { MoeLayer, openDevice, SGD, type Tensor } from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const reference = openDevice("reference");
const [hiddenSize, intermediateSize, numExperts] = [12, 7, 6];

/** Which of the experts and of the shared expert have which biases. */
const someBiases = [
  { experts: ["gateBias", "upBias", "downBias"], shared: [] },
  { experts: [], shared: ["gateBias", "upBias", "downBias"] },
  { experts: ["gateBias"], shared: ["downBias"] },
  { experts: ["downBias"], shared: ["upBias"] },
] as const;

test.each(someBiases)("only biases that experts have are trained: %o", (biases) => {
  const width = intermediateSize + 3;
  const random = new Random(14);
  const draw = (...shape: number[]) => {
    return float64(reference, normals(random, shapeSize(shape), 0.5), shape);
  };
  const expert = (inner: number, roles: readonly string[], ...stack: number[]) => ({
    gate: draw(...stack, inner, hiddenSize),
    up: draw(...stack, inner, hiddenSize),
    down: draw(...stack, hiddenSize, inner),
    ...Object.fromEntries(roles.map((role) => [role, draw(...stack, role === "downBias" ? hiddenSize : inner)])),
  });
  using layer = MoeLayer.create({
    hiddenSize,
    intermediateSize,
    numExperts,
    topK: 2,
    device: reference,
    router: draw(numExperts, hiddenSize),
    experts: expert(intermediateSize, biases.experts, numExperts),
    sharedExpert: { intermediateSize: width },
    shared: expert(width, biases.shared),
  });
  using parameters = layer.parameters();
  using optimizer = new SGD(parameters, { learningRate: 0.5, maxNorm: 1e9 });
  const x = draw(9, hiddenSize);
  const { state } = layer.forward(x, { save: true });
  const { gradients } = layer.backward(state, x, { gradients: parameters.gradients });
  const experts = [...(gradients.experts ?? []), gradients.shared].flatMap(
    (each) => Object.values(each ?? {}) as Tensor[],
  );
  const squares = [gradients.router as Tensor, ...experts].flatMap((tensor) =>
    [...valuesOf(tensor)].map((value) => value ** 2),
  );
  const norm = optimizer.step() as Tensor;
  expect(valuesOf(norm)[0]).toBeCloseTo(
    squares.reduce((sum, square) => sum + square, 0),
    9,
  );
  expect(relativeError(valuesOf(layer.forward(x, { save: true }).y), valuesOf(layer.forward(x)))).toBeLessThan(1e-12);
});
