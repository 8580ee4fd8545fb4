import type * as api from "../../../lib/index.js";

// biome-ignore lint/suspicious/noExplicitAny: options of every function, valid and not
export type Options = any;

/** A public function or method, and arguments that it accepts. */
export interface PublicCall {
  readonly name: string;
  /** Before the options. */
  readonly args: readonly unknown[];
  /** Options that together have every name that the function knows; none if it takes no options. */
  readonly valid: readonly Options[];
  /** After the options. */
  readonly after: readonly unknown[];
  call(...args: readonly unknown[]): unknown;
}

/** The arguments of a call, once with each of its options. */
export function argumentLists({ args, valid, after }: PublicCall): unknown[][] {
  return valid.length === 0 ? [[...args, ...after]] : valid.map((options) => [...args, options, ...after]);
}

/** As the tables have them; `call` takes what its own type says. */
export interface Written extends Partial<PublicCall> {
  readonly name: string;
  readonly args: readonly unknown[];
  // biome-ignore lint/suspicious/noExplicitAny: any function
  call(...args: any[]): unknown;
}

/** The calls of one part of the API, and what releases what they need. */
export interface Part {
  readonly calls: readonly Written[];
  close?(): Promise<void> | void;
}

/** Tokens, hidden size and experts of all arguments. */
export const [T, H, E] = [4, 3, 6];

/** All options of a gating rule. */
export const rule = {
  topK: 2,
  scoring: "softmax",
  selectionKey: "score",
  groups: { count: 3, top: 2, score: "max" },
  normalize: { by: "clamped_sum", epsilon: 0.1 },
  scale: 2,
};

/** All options of an expert's capacity. */
export const size = { factor: 1, round: "up", minimum: 1, multipleOf: 2 };

/** All options of limited capacity. */
export const capacity = { ...size, per: "sequence", drop: "position", renormalize: { by: "kept", scale: 2 } };

/** Options of whatever takes long. */
export const transfer: { onProgress(): void; signal: AbortSignal } = {
  onProgress() {},
  signal: new AbortController().signal,
};

/** Tensors of a device, to pass as arguments. */
export function tensorsOf(device: api.Device) {
  const floats = (...shape: number[]) => device.zeros(shape, "f32");
  const integers = (...shape: number[]) => device.zeros(shape, "i32");
  const routing = () => ({ ids: integers(T, 2), weights: floats(T, 2) });
  return { floats, integers, routing, logits: floats(T, E), tokenMask: device.zeros([T], "u8") };
}
