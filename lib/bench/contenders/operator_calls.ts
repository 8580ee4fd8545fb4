import type { SubjectInputs, TestArray } from "../../testing/subject/subject.js";
import { inputCount } from "../bench_case.js";
import { Draw } from "../operators/draw.js";
import type { OperatorCase, Sizes } from "../operators/operator_case.js";
import { seedOf } from "../operators/sizes.js";
import type { QuantizedArrays } from "../weights/expert_weights.js";

/**
 * The calls of an operator as subjects take them: the same numbers that our calls have, in the same order. Arrays are the same
 * objects whenever a call is repeated.
 * @param weights copies of the experts' weights, for products.
 */
export function operatorCalls(
  operatorCase: OperatorCase,
  sizes: Sizes,
  weights: readonly (TestArray | QuantizedArrays)[] = [],
): readonly SubjectInputs[] {
  const outputs = operatorCase.outputs(sizes);
  const inputs = Array.from({ length: inputCount(sizes.tokens) }, (_, index) =>
    operatorCase.inputs(new Draw(seedOf(operatorCase, sizes, index)), sizes),
  );
  const { activation, clamp } = sizes.description;
  const activates = operatorCase.weights?.(sizes).activates === true;
  return Array.from({ length: Math.max(inputs.length, weights.length) }, (_, index) => ({
    ...inputs[index % inputs.length],
    ...(weights.length > 0 && {
      weight: weights[index % weights.length],
      activation: activates ? activation : "none",
      clamp,
    }),
    outputs,
  }));
}
