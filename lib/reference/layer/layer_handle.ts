import type {
  CapturedHandle,
  ExpertMatrices,
  LayerDescription,
  LayerHandle,
  StageTimes,
  StridedMatrix,
  WeightParts,
} from "../../core/backend.js";
import type { DType } from "../../core/dtype.js";
import type { WeightFormatName, WeightMatrix } from "../../core/weight_format.js";
import { gateUpRows } from "../../layer/description/config.js";
import type { Matrix } from "../core/matrix.js";
import type { Stream } from "../core/stream.js";
import { ReferenceTensor, readMatrix } from "../core/tensor.js";
import { ExpertBiases } from "../experts/expert_biases.js";
import { ReferencePackedExperts } from "../experts/packed_experts.js";
import { dequantize, storageOf } from "../formats/dequantize.js";
import { routerProjection } from "../routing/router_projection.js";
import { appendShared, forward, type Measure, type Projection, route, type Slots } from "./layer.js";

type ParameterName = "router" | "routerBias" | "selectionBias" | "sharedGate" | "sharedGateBias";

/** One layer's weights and biases, rounded to the layer's dtype. Between the stages of a forward nothing is rounded. */
export class ReferenceLayer implements LayerHandle {
  readonly #stream: Stream;
  readonly #description: LayerDescription;
  readonly #parameters = new Map<ParameterName, ReferenceTensor>();
  readonly #gateUp: ReferencePackedExperts;
  readonly #gateUpBias: ExpertBiases;
  readonly #factor: ReferencePackedExperts | undefined;
  readonly #down: ReferencePackedExperts;
  readonly #downBias: ExpertBiases;
  #times = noTimes();

  constructor(stream: Stream, description: LayerDescription) {
    const { hiddenSize: hidden, intermediateSize: inner, formats, biasDType, activation, clamp } = description;
    const experts = description.bank.count + description.sharedExperts;
    const rows = gateUpRows(description);
    this.#stream = stream;
    this.#description = description;
    this.#gateUp = new ReferencePackedExperts(stream, [experts, rows, hidden], formats.up, activation, clamp);
    this.#gateUpBias = new ExpertBiases(stream, experts, rows, biasDType);
    if (description.factor) {
      this.#factor = new ReferencePackedExperts(stream, [experts, inner, hidden], formats.factor, "none", clamp);
    }
    this.#down = new ReferencePackedExperts(stream, [experts, hidden, inner], formats.down, "none", clamp);
    this.#downBias = new ExpertBiases(stream, experts, hidden, biasDType);
  }

  get byteLength(): number {
    const packed = [this.#gateUp, this.#gateUpBias, this.#factor, this.#down, this.#downBias];
    return [...this.#parameters.values(), ...packed].reduce((total, part) => total + (part?.byteLength ?? 0), 0);
  }

  parts(): WeightParts {
    return {};
  }

  setRouter(weight: WeightMatrix, bias: StridedMatrix | null): void {
    this.#keep("router", dequantize(weight), this.#description.formats.router);
    if (bias !== null) this.#keepBias("routerBias", bias);
  }

  setSelectionBias(bias: StridedMatrix): void {
    this.#keepBias("selectionBias", bias, this.#description.biasDType === "f64" ? "f64" : "f32");
  }

  setSharedGate(weight: WeightMatrix, bias: StridedMatrix | null): void {
    this.#keep("sharedGate", dequantize(weight), this.#description.formats.sharedGate);
    if (bias !== null) this.#keepBias("sharedGateBias", bias);
  }

  setExpert(expert: number, { gate, up, factor, down, gateBias, upBias, downBias }: ExpertMatrices): void {
    if (gate === null) this.#gateUp.setExpert(expert, up, null);
    else this.#gateUp.setExpert(expert, gate, up);
    if (gate === null) this.#gateUpBias.setExpert(expert, upBias, null, 1);
    else this.#gateUpBias.setExpert(expert, gateBias, upBias, 2);
    if (factor !== null) this.#factor?.setExpert(expert, factor, null);
    this.#down.setExpert(expert, down, null);
    this.#downBias.setExpert(expert, downBias, null, 1);
  }

  logits(x: ReferenceTensor, logits: ReferenceTensor): void {
    const { weight, bias } = this.#projection("router");
    logits.store(routerProjection(x.matrix(), weight, bias).values);
  }

  route(x: ReferenceTensor, ids: ReferenceTensor, weights: ReferenceTensor): void {
    const routing = this.#route(x.matrix(), (_stage, work) => work());
    ids.store(routing.ids);
    weights.store(routing.weights.values);
  }

  forward(x: ReferenceTensor, y: ReferenceTensor, ids: ReferenceTensor | null, weights: ReferenceTensor | null): void {
    this.#times = noTimes();
    const measure: Measure = (stage, work) => {
      const begin = performance.now();
      const result = work();
      this.#times[stage] += (performance.now() - begin) * 1000;
      return result;
    };
    const { numExperts } = this.#description;
    const tokens = x.matrix();
    const chosen =
      ids && weights
        ? { ids: this.#stream.checkIndices("forward: ids", ids, "an expert", numExperts), weights: weights.matrix() }
        : this.#route(tokens, measure);
    const networks = {
      gateUp: this.#gateUp,
      gateUpBias: this.#gateUpBias.matrix(),
      factor: this.#factor,
      down: this.#down,
      downBias: this.#downBias.matrix(),
    };
    const slots = appendShared(chosen, this.#gateShared(tokens, measure), this.#description);
    y.store(forward(tokens, slots, this.#description, networks, measure).values);
  }

  capture(
    x: ReferenceTensor,
    y: ReferenceTensor,
    ids: ReferenceTensor | null,
    weights: ReferenceTensor | null,
  ): CapturedHandle {
    return { replay: () => this.forward(x, y, ids, weights), free: () => {} };
  }

  async stageTimes(): Promise<StageTimes> {
    return { ...this.#times };
  }

  free(): void {}

  #keep(name: ParameterName, { values, rows, columns }: Matrix, format: WeightFormatName): void {
    const parameter = ReferenceTensor.allocate(this.#stream, storageOf(format), [rows, columns]);
    parameter.store(values);
    this.#parameters.set(name, parameter);
  }

  #keepBias(name: ParameterName, bias: StridedMatrix, dtype: DType = this.#description.biasDType): void {
    this.#keep(name, readMatrix(bias, bias.rows, bias.columns), dtype);
  }

  #projection(name: "router" | "sharedGate"): Projection {
    const weight = this.#parameters.get(name) as ReferenceTensor;
    return { weight: weight.matrix(), bias: this.#parameters.get(`${name}Bias`)?.values() };
  }

  #gateShared(x: Matrix, measure: Measure): Matrix | undefined {
    if (this.#description.sharedGate === "none") return undefined;
    const { weight, bias } = this.#projection("sharedGate");
    return measure("router", () => routerProjection(x, weight, bias));
  }

  #route(x: Matrix, measure: Measure): Slots {
    const bias = this.#parameters.get("selectionBias")?.values();
    const routing = route(x, this.#projection("router"), bias, this.#description, measure);
    this.#stream.nonFiniteLogitRows += routing.nonFiniteRows;
    return routing;
  }
}

function noTimes(): Record<keyof StageTimes, number> {
  return { router: 0, gating: 0, sort: 0, gateUp: 0, down: 0, combine: 0 };
}
