import type {
  CapturedHandle,
  ExpertHandles,
  LayerDescription,
  LayerHandle,
  StageTimes,
  WeightParts,
} from "../backend.js";
import { gateUpRows } from "../layer/config.js";
import { ExpertBiases } from "./expert_biases.js";
import type { GatingResult } from "./gating.js";
import { forward, type Measure, route } from "./layer.js";
import type { Matrix } from "./matrix.js";
import { ReferencePackedExperts } from "./packed_experts.js";
import type { Stream } from "./stream.js";
import { ReferenceTensor } from "./tensor.js";

/** One layer's weights and biases, rounded to the layer's dtype. Between the stages of a forward nothing is rounded. */
export class ReferenceLayer implements LayerHandle {
  readonly #stream: Stream;
  readonly #description: LayerDescription;
  readonly #router: ReferenceTensor;
  #routerBias: ReferenceTensor | null = null;
  readonly #gateUp: ReferencePackedExperts;
  readonly #gateUpBias: ExpertBiases;
  readonly #down: ReferencePackedExperts;
  readonly #downBias: ExpertBiases;
  #times = noTimes();

  constructor(stream: Stream, description: LayerDescription) {
    const { hiddenSize: hidden, intermediateSize: inner, numExperts, weightDType: dtype, activation } = description;
    const rows = gateUpRows(description);
    this.#stream = stream;
    this.#description = description;
    this.#router = ReferenceTensor.allocate(stream, dtype, [numExperts, hidden]);
    this.#gateUp = new ReferencePackedExperts(stream, [numExperts, rows, hidden], dtype, activation);
    this.#gateUpBias = new ExpertBiases(stream, numExperts, rows, dtype);
    this.#down = new ReferencePackedExperts(stream, [numExperts, hidden, inner], dtype, "none");
    this.#downBias = new ExpertBiases(stream, numExperts, hidden, dtype);
  }

  get byteLength(): number {
    const parts = [this.#router, this.#routerBias, this.#gateUp, this.#gateUpBias, this.#down, this.#downBias];
    return parts.reduce((total, part) => total + (part?.byteLength ?? 0), 0);
  }

  parts(): WeightParts {
    return {};
  }

  setRouter(weight: ReferenceTensor, bias: ReferenceTensor | null): void {
    this.#router.store(weight.values());
    if (bias === null) return;
    this.#routerBias = ReferenceTensor.allocate(this.#stream, this.#description.weightDType, bias.shape);
    this.#routerBias.store(bias.values());
  }

  setExpert(expert: number, weights: ExpertHandles): void {
    const { gate, up, down, gateBias, upBias, downBias } = weights as ReferenceExpert;
    if (gate === null) this.#gateUp.setExpert(expert, up, null);
    else this.#gateUp.setExpert(expert, gate, up);
    this.#gateUpBias.setExpert(expert, gateBias, upBias);
    this.#down.setExpert(expert, down, null);
    this.#downBias.setExpert(expert, downBias, null);
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
      this.#times[stage] = (performance.now() - begin) * 1000;
      return result;
    };
    const { numExperts } = this.#description;
    const tokens = x.matrix();
    const routing =
      ids && weights
        ? { ids: this.#stream.checkIndices("forward: ids", ids, "an expert", numExperts), weights: weights.matrix() }
        : this.#route(tokens, measure);
    const experts = {
      gateUp: this.#gateUp,
      gateUpBias: this.#gateUpBias.matrix(),
      down: this.#down,
      downBias: this.#downBias.matrix(),
    };
    y.store(forward(tokens, routing.ids, routing.weights, numExperts, experts, measure).values);
  }

  capture(x: ReferenceTensor, y: ReferenceTensor): CapturedHandle {
    return { replay: () => this.forward(x, y, null, null), free: () => {} };
  }

  async stageTimes(): Promise<StageTimes> {
    return { ...this.#times };
  }

  free(): void {}

  #route(x: Matrix, measure: Measure): GatingResult {
    const router = { weight: this.#router.matrix(), bias: this.#routerBias?.values() };
    const routing = route(x, router, this.#description, measure);
    this.#stream.nonFiniteLogitRows += routing.nonFiniteRows;
    return routing;
  }
}

type ReferenceExpert = {
  [role in keyof ExpertHandles]: ReferenceTensor | (null extends ExpertHandles[role] ? null : never);
};

function noTimes(): Record<keyof StageTimes, number> {
  return { router: 0, gating: 0, sort: 0, gateUp: 0, down: 0, combine: 0 };
}
