import { cannotCombine } from "../../core/errors.js";
import { gatingStages } from "../../core/layer/stages.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import { checkTensor, resultDType } from "../../operators/check.js";
import { checkSelectionBias } from "../../operators/routing/gating_options.js";
import { lookUpExperts } from "../../operators/routing/look_up_experts.js";
import type { MoeLayerDescription } from "../description/config.js";
import type { DeviceLayer } from "../device_layer.js";
import type { ExpertMatrix } from "../weights/expert_weights.js";
import {
  extraShape,
  type RouterRole,
  type RouterTensor,
  type RouterTensors,
  type TrainedRouterRole,
} from "../weights/extra_weights.js";
import { setLinear, withMatrices } from "../weights/linear.js";
import { checkWeight, type Weight, wholeMatrix } from "../weights/weight_layout.js";
import { timesNumber } from "./scales.js";
import type { GateName, Tokens } from "./tokens.js";

/**
 * The linear projections that score experts, and what scales their inputs and the experts' weights. Devices hold the one
 * projection that their fused stages need; the others are tensors here. Every setter checks its weights and enqueues a copy.
 */
export class RouterWeights {
  readonly #layer: DeviceLayer;
  readonly #extra: RouterTensors = {};
  /** [H] f32: what the norm of the router's input multiplies by, its weight times its scale; undefined without one. */
  readonly normFactors: Tensor<"f32"> | undefined;

  constructor(layer: DeviceLayer) {
    this.#layer = layer;
    const { routerNorm, hiddenSize, formats } = layer.description;
    if (routerNorm === undefined) return;
    const factors = new Float64Array(hiddenSize).fill(routerNorm.scale);
    this.normFactors = layer.device.tensor(factors, [hiddenSize], resultDType({ dtype: formats.router }));
  }

  get device() {
    return this.#layer.device;
  }

  get description(): MoeLayerDescription {
    return this.#layer.description;
  }

  /** Bytes of the tensors held here, which are not part of the device's layer. */
  get byteLength(): number {
    const all = Object.values(this.#extra);
    return all.reduce((total, { byteLength }) => total + byteLength, this.normFactors?.byteLength ?? 0);
  }

  /** Sets the router's weight [E, H] and bias [E]. */
  set(weight: ExpertMatrix, bias?: Weight): void {
    const { device, description, handle, record } = this.#layer;
    this.#layer.checkSettable("router");
    setLinear(device, "router", [description.numExperts, description.hiddenSize], weight, bias, (matrix, vector) => {
      handle.setRouter(matrix, vector);
    });
    record.version++;
    if (bias !== undefined) record.addBias("layer", "routerBias");
  }

  /** Sets the selection bias [E]. */
  setSelectionBias(bias: Weight): void {
    const { device, description, handle, record } = this.#layer;
    const { numExperts, scoring, expertChoice, noisy, hierarchy, hashRouting } = description;
    for (const [name, other] of Object.entries({ expertChoice, noisy, hierarchy, hashRouting })) {
      if (other !== undefined) throw cannotCombine("selectionBias", name);
    }
    this.#layer.checkSettable("selectionBias");
    checkWeight("selectionBias", bias, [numExperts], device);
    checkSelectionBias(bias, scoring);
    withMatrices({ bias: wholeMatrix(bias, [numExperts]) }, (matrices) => {
      handle.setSelectionBias(matrices.bias);
    });
    record.version++;
    record.addBias("layer", "selectionBias");
  }

  /** Sets a weight of floats that the device does not hold. */
  setExtra(role: TrainedRouterRole, weight: Weight): void {
    const { device, description, record } = this.#layer;
    const shape = extraShape(description, role);
    checkWeight(role, weight, shape, device);
    const copy = this.#extra[role] ?? device.empty(shape, description.formats.router as FloatDType);
    this.#extra[role] = copy;
    withMatrices({ matrix: wholeMatrix(weight, shape) }, ({ matrix }) => {
      device.backend.copyMatrix({ source: matrix, target: copy.handle });
    });
    if (role === "routerNormWeight") {
      timesNumber(copy, description.routerNorm?.scale as number, this.normFactors as Tensor<"f32">);
    }
    record.version++;
  }

  /** Sets the table [V, k] of hash routing. */
  setExpertTable(table: Tensor<"i32">): void {
    const { device, description, record } = this.#layer;
    const shape = extraShape(description, "expertTable");
    checkTensor("expertTable", table, ["i32"], shape, device);
    const copy = this.#extra.expertTable ?? device.empty(shape, "i32");
    this.#extra.expertTable = copy;
    // The experts of all token ids in order are a copy of the table.
    using all = device.tensor(Int32Array.from({ length: shape[0] as number }, (_, id) => id));
    lookUpExperts(table, all, { out: copy });
    record.version++;
  }

  /**
   * What the gates read of x [T, H]: normalised, in float32; undefined for a layer without a norm for it, and if the logits
   * are given, so that no gate reads anything.
   */
  normalised(x: TensorHandle, { count, dtype, logits }: Tokens): Tensor<"f32"> | undefined {
    const { device, description } = this.#layer;
    if (this.normFactors === undefined || logits !== undefined) return undefined;
    const y = device.empty([count, description.hiddenSize], dtype);
    const epsilon = description.routerNorm?.epsilon as number;
    device.backend.rmsNorm({ x, weight: this.normFactors.handle, y: y.handle, epsilon, offset: 0 });
    return y;
  }

  /** A gate's logits for x: [T, E], or [T, G] for the groups. A view of those that are given. */
  logits(x: TensorHandle, { count, dtype, logits: given }: Tokens, gate: GateName): Tensor<"f32"> {
    const { device, description, handle } = this.#layer;
    if (gate === "experts" && given !== undefined) return given.reshape(given.shape);
    const outputs = gate === "experts" ? description.numExperts : description.hierarchy?.numGroups;
    const logits = device.empty([count, outputs as number], dtype);
    if (gate === "experts") handle.logits(x, logits.handle);
    else this.#project(x, "groupRouter", "groupRouterBias", logits);
    return logits;
  }

  /** The projection that gives the deviation of a gate's noise; has the shape of the gate's logits. */
  noiseSpread(x: TensorHandle, logits: Tensor<"f32">, gate: GateName): Tensor<"f32"> {
    const spread = this.#layer.device.empty(logits.shape, logits.dtype);
    this.#project(x, gate === "experts" ? "noiseRouter" : "groupNoiseRouter", undefined, spread);
    return spread;
  }

  /** A weight that the device does not hold, if the layer has it. */
  extra<Role extends RouterRole>(role: Role): RouterTensor<Role> | undefined {
    return this.#extra[role] as RouterTensor<Role> | undefined;
  }

  /** Enqueues the device's own router, unless the logits are given, and gating for x. */
  choose(x: TensorHandle, { logits }: Tokens, ids: Tensor, weights: Tensor): void {
    const { handle } = this.#layer;
    if (logits === undefined) handle.route(x, ids.handle, weights.handle);
    else handle.forward(x, null, ids.handle, weights.handle, -1, gatingStages, logits.handle);
  }

  free(): void {
    for (const weight of Object.values(this.#extra)) weight.dispose();
    this.normFactors?.dispose();
  }

  #project(x: TensorHandle, role: TrainedRouterRole, biasRole: TrainedRouterRole | undefined, out: Tensor): void {
    const bias = biasRole && this.#extra[biasRole];
    const weight = this.#extra[role] as Tensor;
    this.#layer.device.backend.routerProjection({ x, weight: weight.handle, bias: bias?.handle, logits: out.handle });
  }
}
