import type { ExpertFormats, ExpertMatrices, LayerDescription } from "../../core/device/backend.js";
import type { WeightFormatName, WeightMatrix } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import { isGated } from "../../core/layer/activation.js";
import { sharedGateRows } from "../../core/layer/shared_gate.js";
import type { QuantizedField, WeightRole } from "../../core/layer/weight_role.js";
import type { DType } from "../../core/tensors/dtype.js";
import type { StridedMatrix } from "../../core/tensors/tensor_handle.js";
import type { Matrix } from "../core/matrix.js";
import type { Stream } from "../core/stream.js";
import { ReferenceTensor, readMatrix } from "../core/tensor.js";
import { ExpertBiases } from "../experts/expert_biases.js";
import type { Experts } from "../experts/experts.js";
import { JoinedExperts } from "../experts/joined_experts.js";
import { ReferencePackedExperts } from "../experts/packed_experts.js";
import { QuantizedFields } from "../experts/quantized_fields.js";
import { storageOf, storedValues } from "../formats/dequantize.js";

/** A linear projection: the router, or the gate of the shared experts. */
export interface Projection {
  /** [outputs, H] */
  readonly weight: Matrix;
  /** [outputs] */
  readonly bias: Float64Array | undefined;
}

/** One matrix and bias of every expert. */
export interface ExpertProjection {
  readonly weight: SettableExperts;
  /** The scales, offsets and other tensors of quantised matrices. */
  readonly fields: QuantizedFields;
  readonly bias: ExpertBiases | undefined;
}

type SettableExperts = Experts & Pick<ReferencePackedExperts, "setExpert" | "byteLength">;

/** The matrices of one role of all experts; those of the shared ones may have a format of their own. */
function packedExperts(
  stream: Stream,
  { bank, sharedExperts, formats, tokenFormat }: LayerDescription,
  shape: readonly [number, number],
  role: keyof ExpertFormats,
): SettableExperts {
  const some = (count: number, format: WeightFormatName) =>
    ReferencePackedExperts.linear(stream, [count, ...shape], format, tokenFormat);
  if (formats.shared === undefined) return some(bank.count + sharedExperts, formats[role]);
  return new JoinedExperts(some(bank.count, formats[role]), some(sharedExperts, formats.shared[role]), bank.count);
}

type ParameterName = "router" | "routerBias" | "selectionBias" | "sharedGate" | "sharedGateBias";

/** A layer's weights and biases, each rounded to the format in which its role is stored. */
export class StoredWeights {
  /** Absent if the activation is not gated. */
  readonly gate: ExpertProjection | undefined;
  readonly up: ExpertProjection;
  /** The projection that multiplies the activation; absent if the layer has none. */
  readonly multiplier: ExpertProjection | undefined;
  readonly down: ExpertProjection;
  readonly #stream: Stream;
  readonly #description: LayerDescription;
  readonly #parameters = new Map<ParameterName, ReferenceTensor>();

  constructor(stream: Stream, description: LayerDescription) {
    const { hiddenSize, intermediateSize, biasDType, activation, multiplier } = description;
    const experts = description.bank.count + description.sharedExperts;
    const projection = (role: keyof ExpertFormats, rows: number, columns: number) => ({
      weight: packedExperts(stream, description, [rows, columns], role),
      fields: new QuantizedFields(stream),
      bias: role === "multiplier" ? undefined : new ExpertBiases(stream, experts, rows, biasDType),
    });
    this.#stream = stream;
    this.#description = description;
    this.gate = isGated(activation) ? projection("gate", intermediateSize, hiddenSize) : undefined;
    this.up = projection("up", intermediateSize, hiddenSize);
    this.multiplier = multiplier ? projection("multiplier", intermediateSize, hiddenSize) : undefined;
    this.down = projection("down", hiddenSize, intermediateSize);
  }

  get byteLength(): number {
    const experts = [this.gate, this.up, this.multiplier, this.down].flatMap((role) => [
      role?.weight,
      role?.fields,
      role?.bias,
    ]);
    return [...this.#parameters.values(), ...experts].reduce((total, part) => total + (part?.byteLength ?? 0), 0);
  }

  get router(): Projection {
    return this.#projection("router");
  }

  /** Undefined if the shared experts have no gate. */
  get sharedGate(): Projection | undefined {
    return this.#description.sharedGate === "none" ? undefined : this.#projection("sharedGate");
  }

  get selectionBias(): Float64Array | undefined {
    return this.#parameters.get("selectionBias")?.values();
  }

  setRouter(weight: WeightMatrix, bias: StridedMatrix | null): void {
    this.#keep("router", weight);
    this.#keepBias("routerBias", bias);
  }

  setSharedGate(weight: WeightMatrix, bias: StridedMatrix | null): void {
    this.#keep("sharedGate", weight);
    this.#keepBias("sharedGateBias", bias);
  }

  setSelectionBias(bias: StridedMatrix): void {
    this.#keepBias("selectionBias", bias, this.#description.biasDType === "f64" ? "f64" : "f32");
  }

  setExpert(expert: number, { gate, up, multiplier, down, gateBias, upBias, downBias }: ExpertMatrices): void {
    const { bank, formats } = this.#description;
    const stored = expert < bank.count ? formats : (formats.shared ?? formats);
    const set = (role: keyof ExpertFormats, weight: WeightMatrix | null, bias: StridedMatrix | null) => {
      const projection = this[role];
      if (weight !== null) projection?.weight.setExpert(expert, weight, null);
      if (weight !== null && !isPlain(weightFormat(stored[role]))) projection?.fields.set(expert, weight);
      projection?.bias?.setExpert(expert, bias);
    };
    set("gate", gate, gateBias);
    set("up", up, upBias);
    set("multiplier", multiplier, null);
    set("down", down, downBias);
  }

  /** Copies a field of an expert's quantised matrix. */
  copyField(role: keyof ExpertFormats, expert: number, field: QuantizedField, target: ReferenceTensor): void {
    (this[role] as ExpertProjection).fields.copy(expert, field, target);
  }

  /** A weight of the layer or of one expert; zeros for a bias that was never set. */
  values(role: WeightRole, expert: number): Float64Array {
    const { numExperts, hiddenSize, intermediateSize, sharedGate } = this.#description;
    const gates = sharedGateRows(sharedGate);
    const bias = (of: ExpertProjection | undefined, rows: number) => {
      const values = of?.bias?.matrix()?.values;
      return values ? values.subarray(expert * rows, (expert + 1) * rows) : new Float64Array(rows);
    };
    switch (role) {
      case "router":
      case "sharedGate":
        return this.#projection(role).weight.values;
      case "routerBias":
        return this.#parameters.get(role)?.values() ?? new Float64Array(numExperts);
      case "sharedGateBias":
        return this.#parameters.get(role)?.values() ?? new Float64Array(gates);
      case "gateBias":
        return bias(this.gate, intermediateSize);
      case "upBias":
        return bias(this.up, intermediateSize);
      case "downBias":
        return bias(this.down, hiddenSize);
      default:
        return (this[role] as ExpertProjection).weight.weight(expert).values;
    }
  }

  #projection(name: "router" | "sharedGate"): Projection {
    const weight = this.#parameters.get(name) as ReferenceTensor;
    return { weight: weight.matrix(), bias: this.#parameters.get(`${name}Bias`)?.values() };
  }

  #keep(name: "router" | "sharedGate", weight: WeightMatrix): void {
    const format = this.#description.formats[name];
    this.#store(name, storedValues(weight, format), storageOf(format));
  }

  #keepBias(name: ParameterName, bias: StridedMatrix | null, dtype: DType = this.#description.biasDType): void {
    if (bias !== null) this.#store(name, readMatrix(bias, bias.rows, bias.columns), dtype);
  }

  #store(name: ParameterName, { values, rows, columns }: Matrix, dtype: DType): void {
    const parameter = ReferenceTensor.allocate(this.#stream, dtype, [rows, columns]);
    parameter.store(values);
    this.#parameters.set(name, parameter);
  }
}
