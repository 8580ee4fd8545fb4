import type { LayerDescription } from "../../../core/device/backend.js";
import type { Stream } from "../../core/stream.js";
import type { ForwardState } from "../forward_state.js";
import type { StoredWeights } from "../stored_weights.js";

/** The layer that a stage runs for. */
export interface StageContext {
  readonly description: LayerDescription;
  readonly weights: StoredWeights;
  readonly stream: Stream;
}

/** One step of a forward: reads the results of earlier stages and leaves its own. */
export type Stage = (state: ForwardState, layer: StageContext) => void;
