import { parseArgs } from "node:util";
import { choiceOption, integerOption, listOption, UsageError } from "#lib/terminal/option_values.js";
import { bytesBeyondCaches } from "./case.js";
import { operatorNames } from "./operators.js";
import { threadsOption } from "./program.js";
import { type NamedShape, shapeNames, shapeOption } from "./shape_option.js";

export const help = `Usage: npm run bench -- [options]

Times every operator and the whole layer on the CPU device, and compares them with this machine's peak rates of float32
multiply-adds, bfloat16 dot products and sequential memory reads, measured before and after each shape and dtype.

Options:
  --shape NAMES      ${shapeNames} (A,B,C,D)
  --dtype DTYPES     f32, f16, bf16 (f32,bf16)
  --tokens NUMBERS   tokens per call (1,8,64,512)
  --operator TEXT    only operators whose name contains this, such as layer or grouped_gemm
  --time SECONDS     approximate time for each case (1)
  --threads N        threads of the device (all CPUs)
  --weights MIB      total size of the copies of the weights that calls rotate through; with more than the caches hold,
                     weights come from memory (${bytesBeyondCaches / 2 ** 20})
  --json FILE        also write the results to FILE
  -h, --help         show this help
`;

/** Names of everything that can be timed. */
export const names = ["layer", ...operatorNames];
const dtypes = ["f32", "f16", "bf16"] as const;

export interface Options {
  readonly shapes: readonly NamedShape[];
  readonly dtypes: readonly (typeof dtypes)[number][];
  readonly tokens: readonly number[];
  readonly operator: string;
  readonly seconds: number;
  readonly threads: number;
  readonly weightBytes: number;
  readonly json: string | undefined;
}

/** Parses the command line; undefined if it asks for help. */
export function parseOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      shape: { type: "string", multiple: true, default: ["A,B,C,D"] },
      dtype: { type: "string", multiple: true, default: ["f32,bf16"] },
      tokens: { type: "string", multiple: true, default: ["1,8,64,512"] },
      operator: { type: "string", default: "" },
      time: { type: "string", default: "1" },
      threads: { type: "string" },
      weights: { type: "string" },
      json: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  const { operator, json } = values;
  if (!names.some((name) => name.includes(operator))) {
    throw new UsageError(`--operator: expected part of one of ${names.join(", ")}, got "${operator}"`);
  }
  const seconds = Number(values.time);
  if (!(seconds > 0)) throw new UsageError(`--time: expected seconds > 0, got "${values.time}"`);
  return {
    shapes: listOption(values.shape).map(shapeOption),
    dtypes: listOption(values.dtype).map((name) => choiceOption("dtype", name, dtypes)),
    tokens: listOption(values.tokens).map((count) => integerOption("tokens", count, 1)),
    operator,
    seconds,
    threads: threadsOption(values.threads),
    weightBytes:
      values.weights === undefined ? bytesBeyondCaches : integerOption("weights", values.weights, 0) * 2 ** 20,
    json,
  };
}
