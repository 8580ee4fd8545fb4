import { type LoadedTokenFormat, loadedTokenFormats } from "../../checkpoint/schemes/checkpoint_tokens.js";
import { choiceOption } from "../../terminal/option_values.js";

/** `--token-format` of the commands that load layers. */
export const tokenFormatOption = {
  type: "string",
  value: "NAME",
  help: "round tokens for quantised weights: int8, fp8, or checkpoint for what that says (none)",
} as const;

/** A format of tokens, ignoring case; undefined if none is given. @throws UsageError. */
export function givenTokenFormat(text: string | undefined): LoadedTokenFormat | undefined {
  return text === undefined ? undefined : choiceOption("token-format", text, loadedTokenFormats);
}
