import { unexpected } from "../core/errors.js";
import { finiteOrText } from "../core/text/finite_json.js";
import type { MoeLayerDescription } from "../layer/description/config.js";
import type { MoeLayer } from "../moe_layer.js";

/** What the end of a connection must know of a bank at the other end, as JSON. */
export interface BankFacts {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly identityExperts: number;
  readonly first: number;
  readonly count: number;
  readonly sharedExperts: number;
  /** What the layer computes: the fields of its description, except those that may differ from bank to bank, as JSON each. */
  readonly formula: Readonly<Record<string, string>>;
  /** The router's logits of a fixed token: layers of one shape differ in them. */
  readonly probe: readonly number[];
}

/** How a bank's weights are stored, and what only that with the shared expert has. */
const ofTheBank: ReadonlySet<string> = new Set<keyof MoeLayerDescription>([
  ...(["bank", "formats", "separateGate", "biasDType", "tokenFormat", "weightDType"] as const),
  ...(["sharedExperts", "sharedGate", "sharedClamp"] as const),
]);

/** The facts of a layer. Runs its router on one token. */
export async function bankFacts(layer: MoeLayer): Promise<BankFacts> {
  const { description } = layer;
  const { hiddenSize, numExperts, identityExperts, bank, sharedExperts } = description;
  const shared = Object.entries(description).filter(([name, value]) => value !== undefined && !ofTheBank.has(name));
  const formula = Object.fromEntries(shared.map(([name, value]) => [name, JSON.stringify(value, finiteOrText)]));
  const sizes = { hiddenSize, numExperts, identityExperts, first: bank.first, count: bank.count, sharedExperts };
  return { ...sizes, formula, probe: await probe(layer) };
}

/** The logits of cos(1), cos(2), ... */
async function probe(layer: MoeLayer): Promise<readonly number[]> {
  const { hiddenSize, weightDType } = layer.description;
  const values = Float64Array.from({ length: hiddenSize }, (_, index) => Math.cos(index + 1));
  using token = layer.device.tensor(values, [1, hiddenSize], weightDType === "f64" ? "f64" : "f32");
  using logits = layer.routerLogits(token);
  return [...(await logits.data())];
}

/** Refuses a bank `other`, an argument by this name, that is not of the layer of the bank `near`. */
export function checkSameLayer(parameter: string, near: BankFacts, other: BankFacts): void {
  const expected = "a bank of the layer of near";
  for (const name of new Set([...Object.keys(near.formula), ...Object.keys(other.formula)])) {
    const [here = "not given", there = "not given"] = [near.formula[name], other.formula[name]];
    if (here !== there)
      throw unexpected(parameter, `${expected}, whose ${name} is ${here}`, `one whose ${name} is ${there}`);
  }
  if (!sameRouter(near.probe, other.probe)) {
    throw unexpected(parameter, expected, "one with another router, as other layers and other models have");
  }
}

/**
 * Whether two routers score a token alike. Those of two layers are about as far apart as their logits are large; one that is
 * stored in another format, or multiplied in another order, stays much closer.
 */
function sameRouter(here: readonly number[], there: readonly number[]): boolean {
  const norm = (values: readonly number[]) => Math.hypot(...values);
  const distance = norm(here.map((value, index) => value - (there[index] ?? Number.NaN)));
  return distance <= 0.25 * norm(here) || Object.is(JSON.stringify(here), JSON.stringify(there));
}
