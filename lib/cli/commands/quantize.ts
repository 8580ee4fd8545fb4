import { quantizeToGguf } from "../../checkpoint/quantize/gguf/quantize_to_gguf.js";
import { type QuantizedCheckpoint, quantizeCheckpoint } from "../../checkpoint/quantize/quantize_checkpoint.js";
import type { MatrixError } from "../../checkpoint/quantize/quantize_matrix.js";
import { printable } from "../../core/text/printable.js";
import { type DeviceName, openDevice } from "../../devices.js";
import { quantizableFormat, scaleChoices } from "../../operators/formats/quantize.js";
import { formatBytes, plural, significant } from "../../terminal/format.js";
import { choiceOption, integerListOption, UsageError } from "../../terminal/option_values.js";
import { withProgress } from "../../terminal/progress.js";
import { renderTable } from "../../terminal/table.js";
import { defineCommand } from "../command.js";
import { type Io, writeJson } from "../io.js";
import { checkDevices } from "../options/devices.js";
import { formatOption } from "../options/format.js";
import { givenThreads, threadsOption } from "../options/threads.js";

/** `quantize`: writes a model directory with quantised experts. */
export const quantizeModel = defineCommand({
  synopsis: "DIR --format FORMAT --out DIR2|FILE.gguf [options]",
  argument: "DIR",
  options: {
    format: {
      type: "string",
      value: "FORMAT",
      help: "int4_g128, int4_g32, uint4, int8, fp8, fp8_b128, mxfp4, nvfp4, ...; for MLX a4_g64_bf16, ...; for GGUF q4_k, ...",
    },
    out: {
      type: "string",
      value: "PATH",
      help: "the folder to write, which must be new or empty, or a GGUF file",
    },
    scale: { type: "string", value: "HOW", help: `how scales are chosen: ${scaleChoices.join(" or ")} (largest)` },
    layer: {
      type: "string",
      multiple: true,
      value: "N",
      help: "only the experts of these layers, repeated or as a list: 0,4-7 (all)",
    },
    resume: { type: "boolean", help: "go on where the same command was interrupted" },
    overwrite: { type: "boolean", help: "replace the weights and the configuration in the folder, or the file" },
    device: { type: "string", value: "NAME", help: "the device that quantises (auto)" },
    threads: threadsOption,
    json: { type: "boolean", help: "print JSON" },
  },
  async run(values, io, directory) {
    const { out } = values;
    if (values.format === undefined || out === undefined)
      throw new UsageError("expected --format FORMAT and --out PATH");
    if (values.resume && values.overwrite) throw new UsageError("--resume cannot be combined with --overwrite");
    const format = formatOption(
      "format",
      values.format,
      (name, option) => quantizableFormat(name as string, option).name,
    );
    const scale = choiceOption("scale", values.scale ?? "largest", scaleChoices);
    const name = (values.device ?? "auto") as DeviceName;
    checkDevices([name]);
    const threads = givenThreads(values.threads);
    const layers = values.layer && integerListOption("layer", values.layer);
    using device = openDevice(name, threads);
    const existing = values.resume ? "resume" : values.overwrite ? "overwrite" : "refuse";
    const quantize = out.endsWith(".gguf") ? quantizeToGguf : quantizeCheckpoint;
    const written = await withProgress(io.stderr, `Quantising on ${device.name}`, 1, (onProgress) =>
      quantize(directory, { device, format, out, scale, existing, layers, onProgress }),
    );
    if (values.json) writeJson(io.stdout, written);
    else print(written, io);
    return 0;
  },
});

function print(written: QuantizedCheckpoint, io: Io) {
  const { out, format, scale, files, resumed, bytesBefore, bytesAfter, errors, whyNoTokenizer } = written;
  const { stdout } = io;
  const isGguf = out.endsWith(".gguf");
  const kept = resumed > 0 ? `, ${isGguf ? plural(resumed, "tensor") : resumed} of them there already` : "";
  const tokenizer = whyNoTokenizer ? `The file has no tokenizer: ${whyNoTokenizer}\n` : "";
  stdout.write(
    `${printable(out)}: ${errors.length} matrices of experts in ${format}, ` +
      `scales by ${scale === "largest" ? "the largest element" : "least squares"}\n` +
      `${formatBytes(bytesBefore)} became ${formatBytes(bytesAfter)} in ${plural(files, "file")}${kept}\n${tokenizer}\n` +
      "Relative errors, sqrt(Σ (ŵ - w)² / Σ w²), mean over a layer's experts and the worst\n\n",
  );
  const roles = [...new Set(errors.map(({ role }) => role))];
  const layers = [...new Set(errors.map(({ layer }) => layer))];
  stdout.write(
    renderTable(
      [
        { heading: "layer", align: "right" },
        ...roles.map((role) => ({ heading: role.replace("experts.", ""), align: "right" as const })),
        { heading: "worst", align: "right" },
        { heading: "of" },
      ],
      layers.map((layer) =>
        layerRow(
          errors.filter((one) => one.layer === layer),
          layer,
          roles,
        ),
      ),
    ),
  );
}

function layerRow(errors: readonly MatrixError[], layer: number, roles: readonly string[]): string[] {
  const mean = (role: string) => {
    const own = errors.filter((one) => one.role === role);
    return own.length === 0 ? "" : significant(own.reduce((sum, { error }) => sum + error, 0) / own.length);
  };
  const worst = errors.reduce((a, b) => (b.error > a.error ? b : a));
  return [String(layer), ...roles.map(mean), significant(worst.error), worst.place];
}
