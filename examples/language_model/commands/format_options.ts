import type { TokenFormat, WeightFormatName } from "moe-kernels";
import type { Values } from "../../common/command.js";
import type { LoadOptions } from "../model/language_model.js";

export const tokenFormatHelp = `  --token-format FORMAT  int8 or fp8: rounds the rows that quantised weights are multiplied by (none)
`;

/** The values of --dtype and --token-format. */
export function givenFormats(values: Values): Pick<LoadOptions, "dtype" | "tokenFormat"> {
  return {
    dtype: values.text("dtype") as WeightFormatName | undefined,
    tokenFormat: values.text("token-format") as TokenFormat,
  };
}
