import { type LoadedTokenFormat, loadedTokenFormats } from "../../checkpoint/schemes/checkpoint_tokens.js";
import { isMoeError } from "../../core/errors.js";
import type { WeightFormatName } from "../../core/weight_format.js";
import type { DeviceName } from "../../devices.js";
import { storageFormat } from "../../layer/description/storage.js";
import { checkRouterReport, writeRouterReport } from "../../statistics/router_report.js";
import { choiceOption, integerOption, listOption, UsageError } from "../../terminal/option_values.js";
import { shapes } from "../../testing/shapes.js";
import { defineCommand } from "../command.js";
import { checkDevices } from "../devices.js";
import { writeJson } from "../io.js";
import { printHeatMap } from "../layer_report.js";
import { allPassed, runOnDevices } from "../run_on_devices.js";
import { layerFile } from "../workloads/layer_file.js";
import { modelDirectory } from "../workloads/model_directory.js";
import { namedShape } from "../workloads/named_shape.js";
import { seededTokens, tokensOfFile } from "../workloads/tokens.js";
import type { Workload } from "../workloads/workload.js";

const shapeNames = Object.keys(shapes);

interface WorkloadOptions {
  readonly model?: string | undefined;
  readonly layer?: string | undefined;
  readonly cache?: string | undefined;
  readonly file?: string | undefined;
  readonly shape?: string | undefined;
  readonly seed?: string | undefined;
  readonly tokens?: string | undefined;
  readonly input?: string | undefined;
  readonly "token-format"?: string | undefined;
}

/** `run`: one layer on some tokens, with the time of every stage. */
export const runLayer = defineCommand({
  name: "run",
  summary: "run one layer: routing, time of every stage, tokens per expert, comparison with expected results",
  synopsis: "(--model DIR --layer N | --file FILE | --shape NAME) [options]",
  options: {
    model: { type: "string", value: "DIR", help: "a Hugging Face model directory" },
    layer: { type: "string", value: "N", help: "number of the layer in it" },
    cache: {
      type: "string",
      value: "[FOLDER]",
      help: "map the model's packed weights from a file, written if missing (in DIR/.moe-kernels)",
    },
    file: { type: "string", value: "FILE", help: "a layer file: weights, tokens and expected results in one" },
    shape: { type: "string", value: "NAME", help: `random weights in a known shape: ${shapeNames.join(", ")}` },
    seed: { type: "string", value: "N", help: "seed of random weights and tokens (0)" },
    tokens: { type: "string", value: "N", help: "number of random tokens (256)" },
    input: {
      type: "string",
      value: "FILE",
      help: "tokens from a safetensors file: x [T, H], optionally output [T, H]",
    },
    device: { type: "string", multiple: true, value: "NAME", help: "devices, repeated or comma-separated (auto)" },
    dtype: {
      type: "string",
      value: "DTYPE",
      help: "f32, f16, bf16, or a format for the experts: int4_g32, mxfp4, ... (the checkpoint's; bf16 for a shape)",
    },
    "token-format": {
      type: "string",
      value: "NAME",
      help: "round tokens for quantised weights: int8, fp8, or checkpoint for what that says (none)",
    },
    threads: { type: "string", value: "N", help: "threads of a CPU device (all CPUs)" },
    repeat: { type: "string", value: "N", default: "3", help: "how many times to run; the fastest counts (3)" },
    "heat-map": { type: "boolean", help: "show each expert's load over the tokens, in at most 64 slices" },
    report: {
      type: "string",
      value: "FILE",
      help: "write the same as charts to FILE.html or FILE.svg; needs vega and vega-lite",
    },
    json: { type: "boolean", help: "print JSON" },
  },
  async run(values, io) {
    const devices = listOption(values.device) as DeviceName[];
    const options = {
      devices: devices.length > 0 ? devices : (["auto"] as const),
      dtype: values.dtype === undefined ? undefined : dtypeOption(values.dtype),
      tokenFormat: tokenFormatOption(values["token-format"]?.toLowerCase()),
      repeat: integerOption("repeat", values.repeat, 1),
      quiet: values.json === true,
      history: values["heat-map"] === true || values.report !== undefined,
      ...(values.threads !== undefined && { threads: integerOption("threads", values.threads, 1, 4096) }),
    };
    checkOptions(values);
    checkDevices(options.devices);
    if (values.report !== undefined) await checkRouterReport(values.report);
    const workload = await openWorkload(values);
    const runs = await runOnDevices(workload, options, io);
    const [first] = runs;
    if (first?.history) {
      if (values["heat-map"] && !values.json) printHeatMap(first, first.history, io);
      if (values.report !== undefined) await writeRouterReport(first.history, values.report, { title: workload.title });
    }
    const passed = allPassed(runs);
    if (values.json) writeJson(io.stdout, { title: workload.title, runs, passed });
    return passed ? 0 : 1;
  },
});

function tokenFormatOption(text: string | undefined): LoadedTokenFormat | undefined {
  return text === undefined ? undefined : choiceOption("token-format", text, loadedTokenFormats);
}

/** A dtype or a format, ignoring case. */
function dtypeOption(text: string): WeightFormatName {
  try {
    return storageFormat(text.toLowerCase(), "--dtype");
  } catch (error) {
    throw isMoeError(error) ? new UsageError(error.message) : error;
  }
}

/** Refuses options that would have no effect, and asks for those that are missing. */
function checkOptions(options: WorkloadOptions): void {
  const { model, layer, cache, file, shape, seed, tokens, input, "token-format": tokenFormat } = options;
  const refuse = (name: string, given: string | undefined, problem: string): void => {
    if (given !== undefined) throw new UsageError(`--${name} ${problem}`);
  };
  if ([model, file, shape].filter((source) => source !== undefined).length !== 1) {
    throw new UsageError("expected one of --model, --file and --shape");
  }
  if (model === undefined) {
    refuse("cache", cache, "requires --model DIR");
    refuse("layer", layer, "requires --model DIR");
    if (tokenFormat === "checkpoint") refuse("token-format", tokenFormat, "checkpoint requires --model DIR");
  } else if (layer === undefined) throw new UsageError("--model requires --layer N");
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

async function openWorkload(options: WorkloadOptions): Promise<Workload> {
  const { model, layer, cache, file, shape, input } = options;
  if (file !== undefined) return layerFile(file);
  const seed = integerOption("seed", options.seed ?? "0", 0);
  const count = integerOption("tokens", options.tokens ?? "256", 0);
  const tokens = input === undefined ? seededTokens(count, seed) : await tokensOfFile(input);
  if (model !== undefined) {
    return modelDirectory(model, integerOption("layer", layer ?? "", 0), tokens, cache === "" ? true : cache);
  }
  const name = choiceOption("shape", shape ?? "", shapeNames);
  return namedShape(name, shapes[name] as (typeof shapes)[string], seed, tokens);
}
