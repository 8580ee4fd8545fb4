import type {
  CapturedHandle,
  ExpertMatrices,
  LayerDescription,
  LayerHandle,
  StridedMatrix,
  WeightParts,
} from "../../core/backend.js";
import { MoeError } from "../../core/errors.js";
import type { StageTimes } from "../../core/stages.js";
import {
  forwardStages,
  logitsStages,
  routedStages,
  routeStages,
  type StageList,
  stageNames,
} from "../../core/stages.js";
import type { WeightMatrix } from "../../core/weight_format.js";
import type { Stream } from "../core/stream.js";
import type { ReferenceTensor } from "../core/tensor.js";
import { ForwardState, type StageResults } from "./forward_state.js";
import { LayerWeights } from "./layer_weights.js";
import { stages } from "./stages/list.js";

/** One layer. Between the stages of a forward nothing is rounded. */
export class ReferenceLayer implements LayerHandle {
  readonly #stream: Stream;
  readonly #description: LayerDescription;
  readonly #weights: LayerWeights;
  #times: Record<string, number> = {};

  constructor(stream: Stream, description: LayerDescription) {
    this.#stream = stream;
    this.#description = description;
    this.#weights = new LayerWeights(stream, description);
  }

  get byteLength(): number {
    return this.#weights.byteLength;
  }

  parts(): WeightParts {
    return {};
  }

  setRouter(weight: WeightMatrix, bias: StridedMatrix | null): void {
    this.#weights.setRouter(weight, bias);
  }

  setSelectionBias(bias: StridedMatrix): void {
    this.#weights.setSelectionBias(bias);
  }

  setSharedGate(weight: WeightMatrix, bias: StridedMatrix | null): void {
    this.#weights.setSharedGate(weight, bias);
  }

  setExpert(expert: number, weights: ExpertMatrices): void {
    this.#weights.setExpert(expert, weights);
  }

  logits(x: ReferenceTensor, logits: ReferenceTensor): void {
    const state = this.#run(logitsStages, { x: x.matrix() });
    logits.store(state.get("logits").values);
  }

  route(x: ReferenceTensor, ids: ReferenceTensor, weights: ReferenceTensor): void {
    const { ids: chosen, weights: chosenWeights } = this.#run(routeStages, { x: x.matrix() }).get("chosen");
    ids.store(chosen);
    weights.store(chosenWeights.values);
  }

  forward(
    x: ReferenceTensor,
    y: ReferenceTensor,
    ids: ReferenceTensor | null,
    weights: ReferenceTensor | null,
    _maxChoices: number,
    list: StageList = ids === null ? forwardStages : routedStages,
  ): void {
    const { numExperts } = this.#description;
    const chosen = ids &&
      weights && {
        ids: this.#stream.checkIndices("forward: ids", ids, "an expert", numExperts),
        weights: weights.matrix(),
      };
    this.#times = {};
    y.store(this.#run(list, { x: x.matrix(), ...(chosen && { chosen }) }, this.#times).get("y").values);
  }

  capture(...forward: Parameters<ReferenceLayer["forward"]>): CapturedHandle {
    return { replay: () => this.forward(...forward), free: () => {} };
  }

  async stageTimes(): Promise<StageTimes> {
    return Object.fromEntries(stageNames.map((name) => [name, this.#times[name] ?? 0])) as Record<
      keyof StageTimes,
      number
    >;
  }

  free(): void {}

  /** Runs a list of stages; adds the microseconds of each to `times`. */
  #run(list: StageList, given: Partial<StageResults>, times: Record<string, number> = {}): ForwardState {
    const state = new ForwardState(given);
    const layer = { description: this.#description, weights: this.#weights, stream: this.#stream };
    for (const name of list) {
      const stage = stages[name];
      if (stage === undefined) throw new MoeError("INTERNAL", `layer stages: there is no "${name}"`);
      const begin = performance.now();
      stage(state, layer);
      times[name] = (times[name] ?? 0) + (performance.now() - begin) * 1000;
    }
    return state;
  }
}
