import { integer, list, number, type Read, type Reader, record, results, text } from "../core/input/options.js";
import type { BankFacts } from "./bank_facts.js";

/** The first words of a server, which change whenever frames do. */
export const protocol = "moe-kernels banks 1";

/** Bytes of the longest. */
export const longestHello = 2 ** 26;

/** JSON has no NaN. */
const logit: Reader<number> = (value, name) =>
  value === null ? Number.NaN : number(() => true, "a number")(value, name);

const facts: Reader<BankFacts> = results({
  hiddenSize: integer(1),
  numExperts: integer(1),
  identityExperts: integer(0),
  first: integer(0),
  count: integer(1),
  sharedExperts: integer(0),
  formula: record(text, "an object of texts"),
  probe: list(logit),
});
const helloFields = results({
  /** Tokens that a request may have. */
  maxTokens: integer(1),
  layers: list(results({ layer: integer(0), facts })),
});

/** What a server says first, after the name of the protocol. */
export type Hello = Read<typeof helloFields>;

/** Reads one. Throws an Error that says what is wrong with it. */
export function readHello(body: Buffer): Hello {
  const hello = JSON.parse(body.toString("utf8")) as { readonly protocol?: unknown } | null;
  if (hello?.protocol === protocol) return helloFields(hello, "hello");
  throw new Error(`expected a server of "${protocol}", got ${JSON.stringify(hello?.protocol) ?? "another"}`);
}
