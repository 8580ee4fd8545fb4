import { parseArgs } from "node:util";
import type { Device } from "#lib/core/device.js";
import type { FloatDType } from "#lib/core/dtype.js";
import { loadNative, type ProductKernel } from "#lib/core/native.js";
import { Tensor } from "#lib/core/tensor.js";
import { type TokenFormat, tokenFormats } from "#lib/core/token_format.js";
import { isPlain, weightFormat } from "#lib/core/weight_formats.js";
import { openDevice } from "#lib/devices.js";
import { groupedGemm, type PackedExperts, packExperts } from "#lib/operators/experts/grouped_gemm.js";
import type { QuantizedWeight } from "#lib/operators/experts/quantized_weight.js";
import { significant } from "#lib/terminal/format.js";
import { choiceOption, integerOption, listOption } from "#lib/terminal/option_values.js";
import { renderTable } from "#lib/terminal/table.js";
import { Random } from "#lib/testing/random.js";
import { RandomWeights, randomTokens } from "#lib/testing/random_layer.js";
import { randomQuantized } from "#lib/testing/random_quantized.js";
import { betterOf, ceilingsText, peakGflops } from "./ceilings.js";
import { describeMachine } from "./machine.js";
import { type Measurement, summarize } from "./measure.js";
import { runProgram, threadsOption } from "./program.js";

const help = `Usage: npm run bench:quantised -- [options]

Times grouped products on the CPU device with bfloat16 tokens and weights of several formats, a call of each in turn. Every
token goes to 8 of 32 experts; calls of few tokens take other experts each time, so that weights come from memory. Prints
packed bytes a second, compared with this machine's sequential reads, and operations a second, compared with the peak of
the instructions that the format's kernel is made of.

Options:
  --format NAMES     (f32,bf16,i8_g32_f16,i4_g32_bf16,u4_g128_f16,mxfp4,e4m3_b128_f32,q4_k,q6_k); NAME:int8 or NAME:fp8
                     rounds tokens to 8 bits
  --tokens NUMBERS   (1,8,64,512)
  --size N           rows and columns of an expert (2048)
  --rounds N         (15)
  --threads N        threads of the device (all CPUs)
  -h, --help         show this help
`;

const [experts, topK] = [32, 8];

interface Options {
  readonly formats: readonly string[];
  readonly tokens: readonly number[];
  readonly size: number;
  readonly rounds: number;
  readonly threads: number;
}

/** The parts of a name on the command line: a format, with or without a token format. */
function formatsOf(name: string): { format: string; tokenFormat: TokenFormat } {
  const [format = "", tokens = "none"] = name.split(":");
  return { format, tokenFormat: choiceOption("format", tokens, tokenFormats) };
}

/** All experts of a format, equal so that making them takes no longer than one. */
function packed(device: Device, name: string, size: number): PackedExperts {
  const { format, ...options } = formatsOf(name);
  if (isPlain(weightFormat(format, "--format"))) {
    using plain = new RandomWeights("quantised").tensor(
      device,
      [experts, size, size],
      format as FloatDType,
      size ** -0.5,
    );
    return packExperts(plain, options);
  }
  const one = randomQuantized(device, new Random(format), format, [size, size]);
  const all = Object.fromEntries(
    Object.entries(one).map(([name, value]) => [name, value instanceof Tensor ? stacked(device, value) : value]),
  ) as unknown as QuantizedWeight;
  const weights = packExperts(all, options);
  for (const value of [...Object.values(one), ...Object.values(all)]) if (value instanceof Tensor) value.dispose();
  return weights;
}

function stacked(device: Device, tensor: Tensor): Tensor {
  const values = tensor.dataSync() as Uint8Array;
  const all = new (values.constructor as Uint8ArrayConstructor)(values.length * experts);
  for (let expert = 0; expert < experts; expert++) all.set(values, expert * values.length);
  return device.tensor(all as never, [experts, ...tensor.shape], tensor.dtype as never);
}

/** Calls with this many tokens; each takes the experts after those of the call before it. */
class Calls {
  readonly tokens: number;
  readonly weights: PackedExperts;
  readonly #device: Device;
  readonly #x: Tensor<"bf16">;
  readonly #y: Tensor<"bf16">;
  readonly #offsets: Tensor<"i32">[] = [];
  #next = 0;

  constructor(device: Device, weights: PackedExperts, tokens: number, size: number) {
    this.tokens = tokens;
    this.weights = weights;
    this.#device = device;
    const rows = tokens * topK;
    this.#x = device.tensor(randomTokens(rows, size, 0), [rows, size], "bf16");
    this.#y = device.empty([rows, size], "bf16");
    for (let first = 0; first < experts; first += this.active) {
      const counts = Array.from({ length: experts }, (_, expert) =>
        expert >= first && expert < first + this.active ? rows / this.active : 0,
      );
      const offsets = Int32Array.from({ length: experts + 1 }, (_, end) =>
        counts.slice(0, end).reduce((sum, count) => sum + count, 0),
      );
      this.#offsets.push(device.tensor(offsets, [experts + 1]));
    }
  }

  /** Experts of each call. */
  get active(): number {
    return Math.min(experts, this.tokens * topK);
  }
  get bytes(): number {
    return (this.weights.byteLength * this.active) / experts;
  }

  async run(): Promise<number> {
    const offsets = this.#offsets[this.#next++ % this.#offsets.length] as Tensor<"i32">;
    const begin = performance.now();
    groupedGemm(this.#x, this.weights, offsets, { out: this.#y });
    await this.#device.synchronize();
    return (performance.now() - begin) / 1e3;
  }
}

/** What multiplies bfloat16 tokens by weights of a format. */
function kernelOf(name: string): ProductKernel {
  const { format, tokenFormat } = formatsOf(name);
  return loadNative().productKernel("bf16", tokenFormat, format);
}

const percent = (share: number): string => `${(share * 100).toFixed(0)}%`;

/** The middle of some rates and their spread. */
function rate(amount: number, { median, lowerQuartile, upperQuartile }: Measurement): string {
  const [middle, low, high] = [median, upperQuartile, lowerQuartile].map((seconds) => amount / seconds / 1e9);
  return `${significant(middle as number)} (${significant(low as number)} .. ${significant(high as number)})`;
}

async function measureAll({ formats, tokens, size, rounds, threads }: Options): Promise<void> {
  process.stdout.write(`${JSON.stringify(describeMachine(threads))}\n`);
  using device = openDevice("cpu", { threads });
  const before = await loadNative().ceilings(threads);
  const calls: Calls[] = [];
  for (const format of formats) {
    const weights = packed(device, format, size);
    await device.synchronize();
    for (const count of tokens) calls.push(new Calls(device, weights, count, size));
  }
  const times = calls.map((): number[] => []);
  for (const call of calls) await call.run();
  for (let round = 0; round < rounds; round++) {
    for (const [index, call] of calls.entries()) (times[index] as number[]).push(await call.run());
  }
  const ceilings = betterOf(before, await loadNative().ceilings(threads));
  process.stdout.write(`ceilings: ${ceilingsText(ceilings)}\n`);
  const heading = ["format", "kernel", "bits", "T", "GB/s", "of read", "GFLOP/s", "of peak"];
  process.stdout.write(
    renderTable(
      heading.map((text, index) => ({ heading: text, align: index < 2 ? ("left" as const) : ("right" as const) })),
      calls.map((call, index) => {
        const time = summarize(times[index] as number[]);
        const operations = 2 * call.tokens * topK * size * size;
        const name = formats[Math.floor(index / tokens.length)] as string;
        const kernel = kernelOf(name);
        return [
          name,
          kernel.name,
          significant((call.weights.byteLength * 8) / (experts * size * size)),
          String(call.tokens),
          rate(call.bytes, time),
          percent(call.bytes / time.median / 1e9 / ceilings.readGBs),
          rate(operations, time),
          percent(operations / time.median / 1e9 / peakGflops(ceilings, kernel)),
        ];
      }),
    ),
  );
}

/** Parses the command line; undefined if it asks for help. */
function parseOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      format: {
        type: "string",
        multiple: true,
        default: ["f32,bf16,i8_g32_f16,i4_g32_bf16,u4_g128_f16,mxfp4,e4m3_b128_f32,q4_k,q6_k"],
      },
      tokens: { type: "string", multiple: true, default: ["1,8,64,512"] },
      size: { type: "string", default: "2048" },
      rounds: { type: "string", default: "15" },
      threads: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return undefined;
  return {
    formats: listOption(values.format),
    tokens: listOption(values.tokens).map((count) => integerOption("tokens", count, 1)),
    size: integerOption("size", values.size, 1),
    rounds: integerOption("rounds", values.rounds, 1),
    threads: threadsOption(values.threads),
  };
}

await runProgram({ name: "bench:quantised", help, parse: parseOptions, run: measureAll });
