import { RandomWeights } from "../../testing/random_layer.js";
import { updates } from "../../testing/subject/problem.js";
import type { Subject, SubjectInputs, TestArray } from "../../testing/subject/subject.js";
import { testedOperators } from "../../testing/subject/test_cases.js";
import { type CaseOptions, inputCount } from "../bench_case.js";
import { seedOf, sizesOf } from "../operator_cases.js";
import { Draw } from "../operators/draw.js";
import type { CaseWeights, OperatorCase, Sizes } from "../operators/operator_case.js";
import { operatorCases } from "../operators/table.js";
import { weightDeviation, weightSeed } from "../weight_pool.js";

/** The inputs of all calls of a case, as subjects take them: the same numbers that our calls have, in the same order. */
export interface ContenderProblem {
  readonly operatorCase: OperatorCase;
  readonly calls: readonly SubjectInputs[];
}

/** Whether a case can have contenders: what it takes is arrays, numbers and names, and the same whenever it is repeated. */
export function isComparable(
  operatorCase: OperatorCase,
  { format, dtype }: Pick<CaseOptions, "format" | "dtype">,
): boolean {
  const { operator, weights } = operatorCase;
  return testedOperators.includes(operator) && !updates(operator) && (weights === undefined || format === dtype);
}

/** The contenders that compute an operator. */
export function contendersOf({ operator }: OperatorCase, contenders: readonly Subject[]): readonly Subject[] {
  return contenders.filter(({ operators }) => operators[operator] !== undefined);
}

/** The case of that name, which is not the whole layer's. */
export function operatorCaseOf(name: string): OperatorCase | undefined {
  return operatorCases.find((one) => one.name === name);
}

/** Draws the inputs of a case. Arrays are the same objects whenever a call is repeated. */
export function contenderProblem(operatorCase: OperatorCase, options: CaseOptions, tokens: number): ContenderProblem {
  const sizes = sizesOf(options, tokens);
  const outputs = operatorCase.outputs(sizes);
  const inputs = Array.from({ length: inputCount(tokens) }, (_, index) =>
    operatorCase.inputs(new Draw(seedOf(operatorCase, sizes, index)), sizes),
  );
  const weights = weightArrays(operatorCase.weights?.(sizes), sizes, options.weightBytes);
  const { activation, clamp } = sizes.description;
  const activates = operatorCase.weights?.(sizes).activates === true;
  const calls = Array.from({ length: Math.max(inputs.length, weights.length) }, (_, index) => ({
    ...inputs[index % inputs.length],
    ...(weights.length > 0 && {
      weight: weights[index % weights.length],
      activation: activates ? activation : "none",
      clamp,
    }),
    outputs,
  }));
  return { operatorCase, calls };
}

function weightArrays(weights: CaseWeights | undefined, { numExperts, dtype }: Sizes, least: number): TestArray[] {
  if (weights === undefined) return [];
  const shape = [numExperts, weights.rows, weights.columns];
  const size = numExperts * weights.rows * weights.columns;
  const copies: TestArray[] = [];
  do {
    const random = new RandomWeights(weightSeed(weights, copies.length));
    copies.push({ data: random.array(size, dtype, weightDeviation(weights)), shape, dtype });
  } while (copies.length * (copies[0] as TestArray).data.byteLength < least);
  return copies;
}
