import type {
  CapturedHandle,
  ExpertFormats,
  ExpertMatrices,
  LayerDescription,
  LayerHandle,
  WeightParts,
} from "../../core/device/backend.js";
import { MoeError } from "../../core/errors.js";
import type { WeightMatrix } from "../../core/formats/weight_format.js";
import {
  forwardStages,
  logitsStages,
  routedStages,
  routeStages,
  type StageList,
  type StageName,
  type StageTimes,
} from "../../core/layer/stages.js";
import type { QuantizedField, WeightRole } from "../../core/layer/weight_role.js";
import type { StridedMatrix } from "../../core/tensors/tensor_handle.js";
import type { Stream } from "../core/stream.js";
import type { ReferenceTensor } from "../core/tensor.js";
import { withResidual } from "../experts/combine.js";
import { ForwardState, type Slots } from "./forward_state.js";
import { stages } from "./stages/list.js";
import { StoredWeights } from "./stored_weights.js";

/** Refuses offload: experts are JavaScript arrays, which are always in memory. */
export function noOffload(): MoeError {
  return new MoeError(
    "UNSUPPORTED_OPERATION",
    "offload: expected the device cpu, cuda or simt, got reference, which has all experts in JavaScript's memory",
  );
}

/** One layer. Nothing is rounded between the stages of a forward. */
export class ReferenceLayer implements LayerHandle {
  readonly #stream: Stream;
  readonly #description: LayerDescription;
  readonly #weights: StoredWeights;
  #times: Readonly<Record<string, number>> = {};

  constructor(stream: Stream, description: LayerDescription) {
    this.#stream = stream;
    this.#description = description;
    this.#weights = new StoredWeights(stream, description);
  }

  get byteLength(): number {
    return this.#weights.byteLength;
  }

  parts(): WeightParts {
    return {};
  }

  /** Weights are set within the calls. */
  async weightsSet(): Promise<void> {}

  async checksums(): Promise<BigUint64Array> {
    return new BigUint64Array(0);
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

  copyWeight(role: WeightRole, expert: number, target: ReferenceTensor): void {
    target.store(this.#weights.values(role, expert));
  }

  copySelectionBias(target: ReferenceTensor): void {
    const { numExperts } = this.#description;
    target.store(this.#weights.selectionBias ?? new Float64Array(numExperts));
  }

  copyField(role: keyof ExpertFormats, expert: number, field: QuantizedField, target: ReferenceTensor): void {
    this.#weights.copyField(role, expert, field, target);
  }

  logits(x: ReferenceTensor, logits: ReferenceTensor): void {
    const state = new ForwardState({ x: x.matrix() });
    this.run(logitsStages, state);
    logits.store(state.get("logits").values);
  }

  route(x: ReferenceTensor, ids: ReferenceTensor, weights: ReferenceTensor): void {
    const state = new ForwardState({ x: x.matrix() });
    this.run(routeStages, state);
    this.#store(state.get("chosen"), ids, weights);
  }

  forward(
    x: ReferenceTensor,
    y: ReferenceTensor | null,
    ids: ReferenceTensor | null,
    weights: ReferenceTensor | null,
    _maxChoices: number,
    list: StageList = ids === null ? forwardStages : routedStages,
    logits?: ReferenceTensor | undefined,
    residual?: ReferenceTensor | undefined,
    rows?: { readonly pre: ReferenceTensor; readonly multiplied?: ReferenceTensor | undefined } | undefined,
  ): void {
    const routes = list.includes("gating");
    const chosen = !routes && ids && weights && this.#given(ids, weights);
    const scores = list.includes("router");
    const given = scores ? undefined : logits?.matrix();
    const state = new ForwardState({ x: x.matrix(), ...(given && { logits: given }), ...(chosen && { chosen }) });
    this.#times = this.run(list, state);
    if (routes && ids && weights) this.#store(state.get("chosen"), ids, weights);
    if (scores && logits !== undefined) logits.store(state.get("logits").values);
    rows?.pre.store(state.get("pre").values);
    rows?.multiplied?.store(state.get("multiplied").values);
    if (y !== null) y.store(withResidual(state.get("y"), residual).values);
  }

  capture(...forward: Parameters<ReferenceLayer["forward"]>): CapturedHandle {
    return { replay: () => this.forward(...forward), free: () => {} };
  }

  readonly offloadSlots = 0;

  prefetch(): never {
    throw noOffload();
  }

  async offloadStats(): Promise<never> {
    throw noOffload();
  }

  async stageTimes(): Promise<StageTimes> {
    const time = (name: StageName) => this.#times[name] ?? 0;
    const [router, gating, sort] = [time("router") + time("sharedGate"), time("gating"), time("sort")];
    return { router, gating, sort, gateUp: time("gateUp"), down: time("down"), combine: time("combine") };
  }

  free(): void {}

  /** Runs stages over a state, which may hold the results of earlier ones. Returns the microseconds of each. */
  run(list: StageList, state: ForwardState): Readonly<Record<string, number>> {
    const layer = { description: this.#description, weights: this.#weights, stream: this.#stream };
    const times: Record<string, number> = {};
    for (const name of list) {
      const stage = stages[name];
      if (stage === undefined) throw new MoeError("INTERNAL", `layer stages: there is no "${name}"`);
      const begin = performance.now();
      stage(state, layer);
      times[name] = (times[name] ?? 0) + (performance.now() - begin) * 1000;
    }
    return times;
  }

  /** The routing that was passed in; ids out of range are reported and count as -1. */
  #given(ids: ReferenceTensor, weights: ReferenceTensor): Slots {
    const { numExperts } = this.#description;
    const chosen = this.#stream.checkIndices("forward: ids", ids, "an expert", numExperts);
    return { ids: chosen, weights: weights.matrix() };
  }

  #store(chosen: Slots, ids: ReferenceTensor, weights: ReferenceTensor): void {
    ids.store(chosen.ids);
    weights.store(chosen.weights.values);
  }
}
