import { shapeNames, shapeParameters } from "../../bench/shape_option.js";
import type { DeviceName } from "../../devices.js";
import { checkRouterReport, reportExtensions } from "../../statistics/router_report.js";
import { integerOption, listOption } from "../../terminal/option_values.js";
import { outputOption } from "../../terminal/output_file.js";
import { defineCommand } from "../command.js";
import { writeJson } from "../io.js";
import { allPassed } from "../layer_runs/run_on_devices.js";
import { recordedRuns, writeRunReport } from "../layer_runs/run_report.js";
import { runWorkloads } from "../layer_runs/run_workloads.js";
import { printRefused } from "../model_report.js";
import { checkDevices } from "../options/devices.js";
import { formatOption } from "../options/format.js";
import { quantMethodOption } from "../options/quant_method.js";
import { givenThreads, threadsOption } from "../options/threads.js";
import { givenTokenFormat, tokenFormatOption } from "../options/token_format.js";
import { checkWorkloadOptions, openWorkloads } from "../workloads/open_workloads.js";

/** `run`: layers on some tokens, with the time of every stage. */
export const runLayer = defineCommand({
  synopsis: "(--model DIR [--layer N] | --file FILE | --shape NAME) [options]",
  options: {
    model: {
      type: "string",
      value: "DIR",
      help: "a Hugging Face model directory, a GGUF file, or a layer that layer.save wrote",
    },
    layer: {
      type: "string",
      multiple: true,
      value: "N",
      help: "layers in it, repeated or as a list: 0,4-7 (all with experts)",
    },
    cache: {
      type: "string",
      value: "[FOLDER]",
      help: "map the model's packed weights from a file, written if missing (in DIR/.moe-kernels)",
    },
    file: { type: "string", value: "FILE", help: "a layer file: weights, tokens and expected results in one" },
    shape: { type: "string", value: "NAME", help: `random weights in a shape: ${shapeNames}` },
    seed: { type: "string", value: "N", help: "seed of random weights and tokens (0)" },
    tokens: { type: "string", value: "N", help: "number of random tokens (256)" },
    input: {
      type: "string",
      value: "FILE",
      help: "tokens from a safetensors file: x [T, H], optionally router_input and output [T, H] and token_ids [T]",
    },
    device: { type: "string", multiple: true, value: "NAME", help: "devices, repeated or comma-separated (auto)" },
    dtype: {
      type: "string",
      value: "DTYPE",
      help: "f32, f16, bf16, or a format for the experts: int4_g32, mxfp4, ... (the checkpoint's; bf16 for a shape)",
    },
    "token-format": tokenFormatOption,
    "quant-method": quantMethodOption,
    compare: {
      type: "string",
      value: "DIR",
      help: "tell how far outputs are from those of another model, such as the one that was quantised (with --model)",
    },
    threads: threadsOption,
    repeat: { type: "string", value: "N", default: "3", help: "how many times to run; the fastest counts (3)" },
    "heat-map": { type: "boolean", help: "show each expert's load over the tokens, in at most 64 slices" },
    report: {
      type: "string",
      value: "FILE",
      help: "write the same of all layers to FILE.html, or of one to FILE.svg, which needs vega and vega-lite",
    },
    json: { type: "boolean", help: "print JSON" },
  },
  parameters: { ...shapeParameters, path: "--report" },
  async run(values, io) {
    const devices = listOption("device", values.device) as DeviceName[];
    const options = {
      devices: devices.length > 0 ? devices : (["auto"] as const),
      dtype: values.dtype === undefined ? undefined : formatOption("dtype", values.dtype),
      tokenFormat: givenTokenFormat(values["token-format"]),
      repeat: integerOption("repeat", values.repeat, 1),
      quiet: values.json === true,
      heatMap: values["heat-map"] === true,
      history: values["heat-map"] === true || values.report !== undefined,
      ...givenThreads(values.threads),
    };
    checkWorkloadOptions(values);
    checkDevices(options.devices);
    const report = await outputOption("report", values.report, reportExtensions);
    await using opened = await openWorkloads(values);
    const { title, workloads } = opened;
    if (report !== undefined) await checkRouterReport(report.path, workloads.length);
    const { layers, refused } = await runWorkloads(opened, options, io);
    if (report !== undefined) await writeRunReport(report, title, recordedRuns(layers));
    const runs = layers.flat();
    const passed = refused.length === 0 && allPassed(runs);
    if (values.json) writeJson(io.stdout, { title, runs, refused, passed });
    else printRefused(refused, "not run", io.stdout);
    return passed ? 0 : 1;
  },
});
