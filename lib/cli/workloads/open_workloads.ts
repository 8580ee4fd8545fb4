import { shapeOption } from "../../bench/shape_option.js";
import { integerListOption, integerOption, UsageError } from "../../terminal/option_values.js";
import { givenQuantMethod } from "../options/quant_method.js";
import { layerFile } from "./layer_file.js";
import { modelDirectory } from "./model_directory.js";
import { namedShape } from "./named_shape.js";
import { seededTokens, tokensOfFile } from "./tokens.js";
import type { Workload, Workloads } from "./workload.js";

/** The options of `run` that say what to run. */
export interface WorkloadOptions {
  readonly model?: string | undefined;
  readonly layer?: readonly string[] | undefined;
  readonly cache?: string | undefined;
  readonly file?: string | undefined;
  readonly shape?: string | undefined;
  readonly seed?: string | undefined;
  readonly tokens?: string | undefined;
  readonly input?: string | undefined;
  readonly "token-format"?: string | undefined;
  readonly "quant-method"?: string | undefined;
  readonly compare?: string | undefined;
}

/** Refuses options that would have no effect, and asks for those that are missing; throws UsageError. */
export function checkWorkloadOptions(options: WorkloadOptions): void {
  const { model, layer, cache, file, shape, seed, tokens, input, "token-format": tokenFormat, compare } = options;
  const refuse = (name: string, given: unknown, problem: string): void => {
    if (given !== undefined) throw new UsageError(`--${name} ${problem}`);
  };
  if ([model, file, shape].filter((source) => source !== undefined).length !== 1) {
    throw new UsageError("expected one of --model, --file and --shape");
  }
  if (model === undefined) {
    refuse("cache", cache, "requires --model DIR");
    refuse("layer", layer, "requires --model DIR");
    refuse("quant-method", options["quant-method"], "requires --model DIR");
    refuse("compare", compare, "requires --model DIR");
    if (tokenFormat === "checkpoint") refuse("token-format", tokenFormat, "checkpoint requires --model DIR");
  }
  if (file !== undefined) {
    for (const [name, given] of Object.entries({ input, tokens, seed })) {
      refuse(name, given, "cannot be combined with --file: a layer file has its own tokens and weights");
    }
  }
  if (input !== undefined) {
    refuse("tokens", tokens, "cannot be combined with --input: all of its tokens are used");
    if (model !== undefined) refuse("seed", seed, "cannot be combined with --model and --input: nothing is random");
  }
}

/** @throws UsageError; the errors of {@link modelDirectory} and of the files that are named. */
export async function openWorkloads(options: WorkloadOptions): Promise<Workloads> {
  const { model, cache, file, shape, input } = options;
  if (file !== undefined) return alone(await layerFile(file));
  const seed = integerOption("seed", options.seed ?? "0", 0);
  const count = integerOption("tokens", options.tokens ?? "256", 0);
  const layers = integerListOption("layer", options.layer);
  const known = shape === undefined ? undefined : shapeOption(shape);
  const tokens = input === undefined ? seededTokens(count, seed) : await tokensOfFile(input);
  if (known !== undefined) return alone(namedShape(known, seed, tokens));
  const quantMethod = givenQuantMethod(options["quant-method"]);
  const given = { layers, cache: cache === "" ? true : (cache ?? false), original: options.compare, quantMethod };
  const opened = await modelDirectory(model as string, given, tokens);
  if (opened.workloads.length > 1 && tokens.expectation !== undefined) {
    await opened[Symbol.asyncDispose]();
    throw new UsageError(`--input: ${input} has the expected output of one layer; say which by --layer N`);
  }
  return opened;
}

function alone(workload: Workload): Workloads {
  return {
    title: workload.title,
    workloads: [workload],
    refused: [],
    leavesOutRefused: false,
    async [Symbol.asyncDispose]() {},
  };
}
