/** The stages of a layer, in the order of a forward; native/core/layer/stages.h is the same list in C++. */
export const stageNames = ["router", "sharedGate", "gating", "sort", "gateUp", "down", "combine"] as const;
/**
 * A stage of a layer.
 *
 * @useDeclaredType
 */
export type StageName = (typeof stageNames)[number];

/** A list of stages to run; extensions may add stages of their own. */
export type StageList = readonly (StageName | (string & {}))[];

/** Only the router logits. */
export const logitsStages: StageList = ["router"];
/** The layer's own routing. */
export const routeStages: StageList = ["router", "gating"];
/** A routing whose logits are given. */
export const gatingStages: StageList = ["gating"];
/** A whole forward. */
export const forwardStages: StageList = stageNames;
/** A forward whose logits are given. */
export const scoredStages: StageList = stageNames.filter((name) => name !== "router");
/** A forward whose routing is given. */
export const routedStages: StageList = stageNames.filter((name) => name !== "router" && name !== "gating");
/** A forward whose routing is given, up to the activation. */
export const innerStages: StageList = ["sharedGate", "sort", "gateUp"];

/** Microseconds that each stage of one forward took on the device; the router includes the shared experts' gate. */
export type StageTimes = Readonly<Record<Exclude<StageName, "sharedGate">, number>>;
