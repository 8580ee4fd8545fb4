import type { SafetensorsInput } from "../../../lib/checkpoint/safetensors.js";
import {
  largest,
  linear,
  pick,
  plus,
  type Stored,
  scaled,
  softmax,
  swiglu,
  total,
  type Vector,
  type Weights,
} from "./plain_math.js";

/** The experts of a token and the factors of their outputs; -1 where a choice was dropped. */
export interface Choice {
  readonly ids: Vector;
  readonly weights: Vector;
}

/** A tiny model of a family, and one of its MoE layers written down from the authors' code. */
export interface FamilyModel {
  readonly config: Record<string, unknown>;
  readonly layer: number;
  readonly weights: ReadonlyMap<string, SafetensorsInput>;
  /** Of the tokens: [T, H], or [B, S, H] of several sequences. */
  readonly shape: readonly number[];
  readonly tokens: readonly Vector[];
  readonly choices: readonly Choice[];
  readonly outputs: readonly Vector[];
}

/** What a family does beyond adding up its experts' weighted outputs. */
export interface Extras {
  readonly shared?: Expert;
  readonly weightOn?: "input";
  /** Drops choices of all tokens. */
  readonly drop?: (choices: readonly Choice[]) => readonly Choice[];
  /** Sequences of nine tokens; default 1, without a dimension of their own. */
  readonly sequences?: number;
}

export type Expert = (x: Vector) => Vector;

export const hidden = 24;
export const inner = 13;

/** A model of random tokens: their choices, and the chosen experts' outputs, weighted and added up. */
export function model(
  weights: Weights,
  config: Record<string, unknown>,
  layer: number,
  route: (x: Vector) => Choice,
  experts: readonly Expert[],
  { shared, weightOn, drop = (choices) => choices, sequences }: Extras = {},
): FamilyModel {
  const length = 9;
  const tokens = weights.tokens((sequences ?? 1) * length, hidden);
  const choices = drop(tokens.map(route));
  const outputs = tokens.map((x, token) => {
    const { ids, weights } = choices[token] as Choice;
    return ids.reduce<Vector>(
      (sum, id, slot) => {
        if (id < 0) return sum;
        const weight = weights[slot] as number;
        const expert = experts[id] as Expert;
        return plus(sum, weightOn === "input" ? expert(scaled(x, weight)) : scaled(expert(x), weight));
      },
      shared ? shared(x) : scaled(x, 0),
    );
  });
  const shape = sequences === undefined ? [length, hidden] : [sequences, length, hidden];
  return { config, layer, weights: weights.tensors, shape, tokens, choices, outputs };
}

/** A gated expert of three linear layers. */
export function drawSwiglu(weights: Weights, prefix: string, width = inner, [gate, up, down] = projections): Expert {
  return swiglu(
    weights.draw(`${prefix}.${gate}.weight`, [width, hidden]),
    weights.draw(`${prefix}.${up}.weight`, [width, hidden]),
    weights.draw(`${prefix}.${down}.weight`, [hidden, width]),
  );
}
const projections = ["gate_proj", "up_proj", "down_proj"];

export function drawExperts(weights: Weights, prefix: string, count: number, names = projections): Expert[] {
  return Array.from({ length: count }, (_, expert) => drawSwiglu(weights, `${prefix}.${expert}`, inner, names));
}

/** Softmax over all, the k largest, as they are or divided by their sum. */
export const softmaxTopK =
  (router: Stored, k: number, normalize: boolean) =>
  (x: Vector): Choice => {
    const scores = softmax(linear(router, x));
    const ids = largest(scores, k);
    const chosen = pick(scores, ids);
    return { ids, weights: normalize ? scaled(chosen, 1 / total(chosen)) : chosen };
  };

export const sizes = { hidden_size: hidden, intermediate_size: inner, num_hidden_layers: 4 };
