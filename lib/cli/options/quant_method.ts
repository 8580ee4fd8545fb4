import { type QuantMethod, quantMethods } from "../../checkpoint/schemes/quantization.js";
import { choiceOption } from "../../terminal/option_values.js";

/** `--quant-method` of the commands that open models. */
export const quantMethodOption = {
  type: "string",
  value: "NAME",
  help: "read the model's quantised weights as those of this method: gptq, awq, ... (what its configuration says)",
} as const;

/** A method of quantisation, ignoring case; undefined if none is given. @throws UsageError. */
export function givenQuantMethod(text: string | undefined): QuantMethod | undefined {
  return text === undefined ? undefined : choiceOption("quant-method", text, quantMethods);
}
