import type { ExpertRange } from "../../core/layer/expert_range.js";
import { printable } from "../../core/text/printable.js";
import { type DeviceName, openDevice } from "../../devices.js";
import { openModel } from "../../moe_model.js";
import { address as checkedAddress } from "../../parallel/address.js";
import { serveBanks } from "../../parallel/bank_server.js";
import { formatBytes } from "../../terminal/format.js";
import { integerListOption, UsageError } from "../../terminal/option_values.js";
import { withProgress } from "../../terminal/progress.js";
import { formatRanges } from "../../terminal/ranges.js";
import { defineCommand } from "../command.js";
import { checkDevices } from "../options/devices.js";
import { formatOption } from "../options/format.js";
import { givenQuantMethod, quantMethodOption } from "../options/quant_method.js";
import { givenThreads, threadsOption } from "../options/threads.js";
import { givenTokenFormat, tokenFormatOption } from "../options/token_format.js";

/** `serve`: banks of a model's layers, for other processes. */
export const serve = defineCommand({
  synopsis: "DIR|FILE [options]",
  argument: "DIR|FILE",
  options: {
    experts: { type: "string", value: "N-M", help: "the experts to hold of each layer: 32-63 (all)" },
    layer: {
      type: "string",
      multiple: true,
      value: "N",
      help: "only these layers, repeated or as a list: 0,4-7 (all with experts)",
    },
    address: {
      type: "string",
      value: "ADDRESS",
      help: "where to listen: HOST:PORT, or the path of a socket (127.0.0.1 and a free port)",
    },
    cache: {
      type: "string",
      value: "[FOLDER]",
      help: "map the packed weights from files, written if missing (in DIR/.moe-kernels)",
    },
    dtype: {
      type: "string",
      value: "DTYPE",
      help: "f32, f16, bf16, or a format for the experts: int4_g32, mxfp4, ... (the checkpoint's)",
    },
    "token-format": tokenFormatOption,
    "quant-method": quantMethodOption,
    device: { type: "string", value: "NAME", help: "the device that holds them (auto)" },
    threads: threadsOption,
  },
  parameters: { bank: "--experts" },
  async run(values, io, path) {
    const name = (values.device ?? "auto") as DeviceName;
    checkDevices([name]);
    const bank = rangeOption("experts", values.experts);
    const { layer, cache, address } = values;
    if (address !== undefined) checkedAddress(address, "address"); // before anything is loaded
    const options = {
      bank,
      layers: layer && integerListOption("layer", layer),
      cache: cache === "" ? true : cache,
      dtype: values.dtype === undefined ? undefined : formatOption("dtype", values.dtype),
      tokenFormat: givenTokenFormat(values["token-format"]),
    };
    const quantMethod = givenQuantMethod(values["quant-method"]);
    await using device = openDevice(name, givenThreads(values.threads));
    await using model = await openModel(path, { quantMethod });
    const layers = await withProgress(io.stderr, `Loading ${model.path}`, 1, (update) =>
      model.loadAll({
        ...{ ...options, device },
        onProgress: ({ bytesRead, bytesTotal }) => update(bytesRead / bytesTotal),
      }),
    );
    await using server = await serveBanks(layers, { address });
    const stopped = terminated();
    const bytes = [...layers.values()].reduce((total, { byteLength }) => total + byteLength, 0);
    const experts = bank === undefined ? "all experts" : `experts ${bank.first}-${bank.first + bank.count - 1}`;
    io.stdout.write(
      `Serving ${experts} of layers ${formatRanges(server.layers)} at ${printable(server.address)}, ` +
        `${formatBytes(bytes)} on ${device.name}; Ctrl-C ends it\n`,
    );
    await stopped;
    return 0;
  },
});

/** A range "8-15", or one number; undefined if none is given. @throws UsageError. */
function rangeOption(name: string, text: string | undefined): ExpertRange | undefined {
  if (text === undefined) return undefined;
  const numbers = integerListOption(name, [text]);
  const [first, count] = [numbers[0] as number, numbers.length];
  if (numbers.at(-1) === first + count - 1) return { first, count };
  throw new UsageError(`--${name}: expected one range, got "${text}"`);
}

/** Resolves when the process is asked to end. A second time, it ends at once. */
async function terminated(): Promise<void> {
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
}
