import { parseArgs } from "node:util";
import { describeMachine } from "#lib/bench/machine.js";
import { summarize } from "#lib/bench/measure.js";
import { type NamedShape, shapeNames, shapeOption } from "#lib/bench/shape_option.js";
import { loadNative } from "#lib/core/addon/native.js";
import type { FloatDType } from "#lib/core/tensors/dtype.js";
import { openDevice } from "#lib/devices.js";
import { countedRows, layerWork } from "#lib/layer/work.js";
import type { MoeLayer } from "#lib/moe_layer.js";
import { AdamW } from "#lib/optimizers/adamw.js";
import { formatBytes, significant } from "#lib/terminal/format.js";
import { choiceOption, integerOption, listOption } from "#lib/terminal/option_values.js";
import { renderTable } from "#lib/terminal/table.js";
import { randomLayer, randomTokens } from "#lib/testing/inputs/random_layer.js";
import { tokensPerExpert } from "#lib/testing/tokens_per_expert.js";
import { runProgram, threadsOption } from "./program.js";

const help = `Usage: npm run bench:training -- [options]

Times training on the CPU device, each in turn: a forward, a forward that keeps what backward needs, backward and a step of
AdamW. Backward does twice the operations of a forward; its rate is compared with that of the forward in the same round. The
step reads and writes 28 bytes for every weight, and packs the layer again.

Options:
  --shape NAME       ${shapeNames} (1024x3584x8x2)
  --dtype NAMES      f32, bf16 or f16, comma-separated (f32,bf16)
  --tokens NUMBERS   (512,2048)
  --recompute        keep only x and the routing
  --no-step          without the optimiser, whose float32 weights and averages need as much memory as three float32 layers
  --rounds N         (9)
  --threads N        threads of the device (all CPUs)
  -h, --help         show this help
`;

interface Options {
  readonly shape: NamedShape;
  readonly dtypes: readonly FloatDType[];
  readonly tokens: readonly number[];
  readonly recompute: boolean;
  readonly noStep: boolean;
  readonly rounds: number;
  readonly threads: number;
}

/** Milliseconds of each part of a round. */
type Times = Record<"forward" | "save" | "backward" | "step", number>;

async function measure(layer: MoeLayer, tokens: number, dtype: FloatDType, options: Options): Promise<string[]> {
  const { device, description } = layer;
  const shape = [tokens, description.hiddenSize];
  using x = device.tensor(randomTokens(tokens, description.hiddenSize, 0), shape, dtype);
  using parameters = options.noStep ? undefined : layer.parameters();
  using optimizer = parameters && new AdamW(parameters, { learningRate: 1e-6 });
  let gradients = parameters?.gradients;
  const timed = async (part: () => void) => {
    const begin = performance.now();
    part();
    await device.synchronize();
    return performance.now() - begin;
  };
  let keptBytes = 0;
  const round = async (): Promise<Times> => {
    const forward = await timed(() => layer.forward(x).dispose());
    const saving = () => layer.forward(x, { save: true, recompute: options.recompute });
    let saved: ReturnType<typeof saving> | undefined;
    const save = await timed(() => {
      saved = saving();
    });
    const { y, state } = saved as ReturnType<typeof saving>;
    keptBytes = state.byteLength;
    const backward = await timed(() => {
      const result = layer.backward(state, y, gradients ? { gradients } : {});
      result.dx.dispose();
      gradients = result.gradients;
    });
    y.dispose();
    return { forward, save, backward, step: await timed(() => optimizer?.step()) };
  };
  await round();
  const rounds: Times[] = [];
  for (let done = 0; done < options.rounds; done++) rounds.push(await round());
  const median = (of: (times: Times) => number) => summarize(rounds.map(of)).median;
  const { lowerQuartile, upperQuartile } = summarize(rounds.map(({ backward }) => backward));
  const load = countedRows(tokens, await tokensPerExpert(layer, x));
  const { operations } = layerWork(description, load, dtype);
  const gflops = (factor: number, milliseconds: number) => significant((factor * operations) / milliseconds / 1e6);
  return [
    dtype,
    String(tokens),
    significant(median(({ forward }) => forward)),
    significant(median(({ save }) => save)),
    `${significant(median(({ backward }) => backward))} (${significant(lowerQuartile)} .. ${significant(upperQuartile)})`,
    gflops(
      1,
      median(({ forward }) => forward),
    ),
    gflops(
      2,
      median(({ backward }) => backward),
    ),
    `${Math.round(100 * median(({ forward, backward }) => (2 * forward) / backward))} %`,
    formatBytes(keptBytes),
    options.noStep ? "" : significant(median(({ step }) => step)),
  ];
}

async function run(options: Options): Promise<void> {
  const { shape, dtypes, tokens, threads } = options;
  process.stdout.write(`${JSON.stringify(describeMachine(threads))}\n${shape.name}, ${threads} threads\n`);
  for (const dtype of dtypes) {
    const { name } = loadNative().productKernel(dtype, "none", dtype);
    process.stdout.write(`${dtype}: products with weights by ${name}\n`);
  }
  using device = openDevice("cpu", { threads });
  const rows: string[][] = [];
  for (const dtype of dtypes) {
    using layer = await randomLayer(device, shape.config, dtype, 0);
    for (const count of tokens) rows.push(await measure(layer, count, dtype, options));
  }
  const headings = [
    "dtype",
    "T",
    "forward ms",
    "save ms",
    "backward ms",
    "GFLOP/s",
    "backward",
    "ratio",
    "kept",
    "step ms",
  ];
  const columns = headings.map((heading) => ({ heading, align: "right" as const }));
  process.stdout.write(renderTable(columns, rows));
}

const dtypes = ["f32", "bf16", "f16"] as const;

await runProgram<Options>({
  name: "bench:training",
  help,
  parse() {
    const { values } = parseArgs({
      options: {
        shape: { type: "string", default: "1024x3584x8x2" },
        dtype: { type: "string", multiple: true },
        tokens: { type: "string", multiple: true },
        recompute: { type: "boolean", default: false },
        "no-step": { type: "boolean", default: false },
        rounds: { type: "string", default: "9" },
        threads: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) return undefined;
    return {
      shape: shapeOption(values.shape),
      dtypes: listOption("dtype", values.dtype ?? ["f32", "bf16"]).map((name) => choiceOption("dtype", name, dtypes)),
      tokens: listOption("tokens", values.tokens ?? ["512", "2048"]).map((count) => integerOption("tokens", count, 1)),
      recompute: values.recompute,
      noStep: values["no-step"],
      rounds: integerOption("rounds", values.rounds, 1),
      threads: threadsOption(values.threads),
    };
  },
  run,
});
