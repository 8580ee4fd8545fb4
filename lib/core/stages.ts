/** The stages of a layer's forward, in order; native/core/layer/stages.h is the same list in C++. */
export const stageNames = ["router", "gating", "sort", "gateUp", "down", "combine"] as const;
export type StageName = (typeof stageNames)[number];

/** A list of stages to run; an extension may have stages of its own. */
export type StageList = readonly (StageName | (string & {}))[];

/** Router logits alone. */
export const logitsStages: StageList = ["router"];
/** The layer's own routing. */
export const routeStages: StageList = ["router", "gating"];
/** A whole forward. */
export const forwardStages: StageList = stageNames;
/** A forward whose routing is given. The router's stage is there for the gate of the shared experts. */
export const routedStages: StageList = stageNames.filter((name) => name !== "gating");

/** Microseconds that each stage of one forward took on the device. */
export type StageTimes = Readonly<Record<StageName, number>>;
