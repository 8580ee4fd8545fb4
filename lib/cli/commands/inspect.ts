import { defaultTokens } from "../../checkpoint/inspect/inspect_model.js";
import { openModel } from "../../moe_model.js";
import { integerOption, listOption } from "../../terminal/option_values.js";
import { defineCommand } from "../command.js";
import { writeJson } from "../io.js";
import { printModelInspection } from "../model_report.js";
import { givenQuantMethod, quantMethodOption } from "../options/quant_method.js";

/** `inspect`: a model's MoE layers, their storage and their work. */
export const inspect = defineCommand({
  synopsis: "DIR|FILE [--layer N] [--tokens N,N,...] [--quant-method NAME] [--json]",
  argument: "DIR|FILE",
  options: {
    layer: { type: "string", value: "N", help: "only this layer (all layers with experts)" },
    tokens: {
      type: "string",
      multiple: true,
      value: "N",
      help: `batch sizes to count work for, repeated or comma-separated (${defaultTokens.join(",")})`,
    },
    "quant-method": quantMethodOption,
    json: { type: "boolean", help: "print JSON" },
  },
  async run(values, io, directory) {
    const tokens = listOption("tokens", values.tokens ?? defaultTokens.map(String)).map((text) =>
      integerOption("tokens", text, 1),
    );
    const layer = values.layer === undefined ? undefined : integerOption("layer", values.layer, 0);
    await using model = await openModel(directory, { quantMethod: givenQuantMethod(values["quant-method"]) });
    const inspection = await model.inspect({ layer, tokens });
    if (values.json) writeJson(io.stdout, inspection);
    else printModelInspection(inspection, io);
    const complete = inspection.groups.every(
      ({ storage }) => storage === null || storage.missing.length + storage.problems.length === 0,
    );
    return complete && inspection.refused.length === 0 ? 0 : 1;
  },
});
