import type { FloatDType } from "../../core/tensors/dtype.js";
import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { copyAll } from "../../operators/copy_all.js";
import { activationBackward } from "../../operators/experts/activation_backward.js";
import { combine } from "../../operators/experts/combine.js";
import { combineBackward } from "../../operators/experts/combine_backward.js";
import { groupedGemm } from "../../operators/experts/grouped_gemm.js";
import { groupedGemmWeightBackward } from "../../operators/experts/grouped_gemm_weight_backward.js";
import { permute, unpermute } from "../../operators/experts/permute.js";
import { permuteBackward } from "../../operators/experts/permute_backward.js";
import { routerScores } from "../../operators/statistics/router_scores.js";
import { routerScoresBackward } from "../../operators/statistics/router_scores_backward.js";
import type { DeviceLayer } from "../device_layer.js";
import type { InnerRows } from "../forward/inner_rows.js";
import { Temporaries } from "../temporaries.js";
import type { ExpertMemory } from "./expert_memory.js";
import type { BackwardMatrices } from "./matrices.js";
import { activatedRows, outputRows, type PassRows, rowActivation, weightedRows } from "./rows.js";
import { MatrixSum, ones, steps } from "./sums.js";

/** What the backward pass of the experts reads. */
export interface ExpertPass {
  readonly layer: DeviceLayer;
  readonly matrices: BackwardMatrices;
  readonly x: Tensor<FloatDType>;
  readonly dy: Tensor<FloatDType>;
  readonly rows: PassRows;
  readonly saved: InnerRows;
}

/** Where the gradients of the experts go. */
export interface ExpertTarget {
  /** Undefined: the experts' gradients are not wanted. */
  readonly memory: ExpertMemory | undefined;
  readonly accumulate: boolean;
  /** Terms of dx, as many as {@link dxTerms} says. */
  readonly dx: MatrixSum;
}

/** How many terms {@link expertsBackward} adds to dx. */
export function dxTerms({ description }: DeviceLayer): number {
  return description.multiplier ? 2 : 1;
}

/**
 * From dy to dx, to the experts' weights and to the slots' weights. With h the activation of a row, w its weight and g
 * = downᵀ dy: dh = w g, and the weight gets h · g (+ dy · the bias), so that y is not needed for every row
 * (SonicMoE, arXiv 2512.14080).
 *
 * @returns [T, S] f32, the gradients of the weights of the slots.
 */
export function expertsBackward(pass: ExpertPass, target: ExpertTarget): Tensor<"f32"> {
  using temporaries = new Temporaries();
  const { layer, saved, rows } = pass;
  const { weightOn } = layer.description;
  const inner = temporaries.keep(activatedRows(layer, rows, saved));
  using made = new Made();
  const { dInner, dWeights } = outputsBackward(pass, inner, target, temporaries);
  made.own(dWeights);
  const gradients = activationBackward(saved.pre, dInner, rowActivation(layer, rows, saved));
  const dPre = temporaries.keep(gradients.dPre);
  const dMultiplied = gradients.dMultiplier && temporaries.keep(gradients.dMultiplier);
  const onInput = weightOn === "input";
  if (target.memory) {
    const { gateUp, gateUpBias, multiplier } = target.memory;
    const inputs = onInput ? temporaries.keep(weightedRows(rows, pass.x)) : pass.x;
    const tokenOfRow = onInput ? undefined : rows.tokenOfRow;
    weightGradient(inputs, dPre, pass, tokenOfRow, [gateUp, gateUpBias], target);
    if (dMultiplied && multiplier) {
      weightGradient(inputs, dMultiplied, pass, tokenOfRow, [multiplier, undefined], target);
    }
  }
  const { gateUp, multiplier } = pass.matrices;
  const products = [
    [dPre, gateUp] as const,
    ...(dMultiplied && multiplier ? [[dMultiplied, multiplier] as const] : []),
  ];
  const ofInputs = products.map(([gradient, matrix]) =>
    temporaries.keep(groupedGemm(gradient, matrix.packed, rows.offsets)),
  );
  for (const gradient of ofInputs) {
    using dx = target.dx.term();
    if (onInput) combine(gradient, rows.rowOfSlot, rows.weights, { out: dx });
    else permuteBackward(gradient, rows.rowOfSlot, { out: dx });
  }
  return onInput ? inputWeights(pass, ofInputs) : made.returned(dWeights as Tensor<"f32">);
}

/** What {@link outputsBackward} finds. */
interface OutputGradients {
  /** [R, I], of the activations. */
  readonly dInner: Tensor<FloatDType>;
  /** [T, S], if the weights multiply the output. */
  readonly dWeights: Tensor<"f32"> | undefined;
}

/** From dy through the second product, with the gradients of its weights. */
function outputsBackward(
  pass: ExpertPass,
  inner: Tensor<FloatDType>,
  target: ExpertTarget,
  temporaries: Temporaries,
): OutputGradients {
  const { layer, matrices, dy, rows } = pass;
  const { outputActivation, weightOn } = layer.description;
  const onOutput = weightOn === "output";
  const { packed: transposed } = matrices.down;
  const { offsets, tokenOfRow } = rows;
  const dyOfRows = () => temporaries.keep(onOutput ? weightedRows(rows, dy) : permute(dy, tokenOfRow));
  const ofWeights = (dOutputs: Tensor<FloatDType>) => {
    const { memory } = target;
    if (memory) weightGradient(inner, dOutputs, pass, undefined, [memory.down, memory.downBias], target);
  };
  if (outputActivation === "softmax") {
    const outputs = temporaries.keep(outputRows(matrices, inner, rows));
    const dScores = layer.device.empty(outputs.shape, outputs.dtype);
    temporaries.keep(dScores);
    const scores = routerScores(outputs);
    for (const each of Object.values(scores)) temporaries.keep(each);
    copyAll(dyOfRows(), dScores);
    const dOutputs = temporaries.keep(routerScoresBackward(outputs, { dScores }));
    const dInner = temporaries.keep(groupedGemm(dOutputs, transposed, offsets));
    ofWeights(dOutputs);
    return { dInner, dWeights: onOutput ? slotProducts(pass, scores.scores, dy) : undefined };
  }
  if (target.memory) ofWeights(dyOfRows());
  const unweighted = temporaries.keep(groupedGemm(dy, transposed, offsets, { tokenOfRow }));
  return onOutput ? weightedInner(pass, inner, unweighted, temporaries) : { dInner: unweighted, dWeights: undefined };
}

/** dh = w g, and h · g (+ dy · the bias) for every slot. */
function weightedInner(
  pass: ExpertPass,
  inner: Tensor<FloatDType>,
  unweighted: Tensor<FloatDType>,
  temporaries: Temporaries,
): OutputGradients {
  const { layer, dy, rows, matrices } = pass;
  const { device } = layer;
  const count = inner.shape[0] as number;
  const { dtype } = rows.weights;
  const one = temporaries.keep(ones(device, [dy.shape[0] as number, 1], dtype));
  const rowWeights = temporaries.keep(weightedRows(rows, one)) as Tensor<"f32">;
  const ownRow = temporaries.keep(steps(device, [count, 1], 1));
  const dInner = temporaries.keep(device.empty(inner.shape, unweighted.dtype));
  using dRowWeights = new MatrixSum(device, [count, 1], dtype, 2);
  using products = dRowWeights.term();
  combineBackward(inner, ownRow, rowWeights, unweighted, { out: { dRows: dInner, dWeights: products } });
  const bias = matrices.downBias;
  if (bias) {
    using out = dRowWeights.term();
    using asMatrices = bias.reshape([bias.shape[0] as number, 1, bias.shape[1] as number]);
    groupedGemm(dy, asMatrices, rows.offsets, { tokenOfRow: rows.tokenOfRow, out });
  }
  const sums = bias ? temporaries.keep(dRowWeights.toTensor([count, 1], dtype)) : products;
  using slots = unpermute(sums, rows.rowOfSlot);
  return { dInner, dWeights: slots.reshape(rows.weights.shape) as Tensor<"f32"> };
}

/** [T, S], the products of the slots' rows and their tokens' `y`. */
function slotProducts(
  { rows: { rowOfSlot, weights } }: ExpertPass,
  ofRows: Tensor<FloatDType>,
  y: Tensor<FloatDType>,
  out?: Tensor<"f32">,
): Tensor<"f32"> {
  const where = out && { out: { dWeights: out } };
  return combineBackward(ofRows, rowOfSlot, weights, y, { want: "dWeights", ...where }).dWeights;
}

/** The gradients of weights that multiply the input: the products of x and the gradients of what they multiply. */
function inputWeights(pass: ExpertPass, ofInputs: readonly Tensor<FloatDType>[]): Tensor<"f32"> {
  const { layer, rows, x } = pass;
  const { shape, dtype } = rows.weights;
  using sum = new MatrixSum(layer.device, shape as [number, number], dtype, ofInputs.length);
  for (const gradient of ofInputs) {
    using term = sum.term();
    slotProducts(pass, gradient, x, term);
  }
  return sum.toTensor(shape, dtype);
}

function weightGradient(
  inputs: Tensor<FloatDType>,
  dOutputs: Tensor<FloatDType>,
  { rows }: ExpertPass,
  tokenOfRow: Tensor<"i32"> | undefined,
  [dWeight, dBias]: readonly [Tensor<"f32">, Tensor<"f32"> | undefined],
  { accumulate }: ExpertTarget,
): void {
  groupedGemmWeightBackward(inputs, dOutputs, rows.offsets, {
    ...(tokenOfRow && { tokenOfRow }),
    bias: dBias !== undefined,
    accumulate,
    out: { dWeight, ...(dBias && { dBias }) },
  });
}
