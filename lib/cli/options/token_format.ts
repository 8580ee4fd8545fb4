import { type LoadedTokenFormat, loadedTokenFormats } from "../../checkpoint/schemes/checkpoint_tokens.js";
import { choiceOption } from "../../terminal/option_values.js";

/** A format of tokens, ignoring case; undefined if none is given. @throws UsageError. */
export function tokenFormatOption(text: string | undefined): LoadedTokenFormat | undefined {
  return text === undefined ? undefined : choiceOption("token-format", text, loadedTokenFormats);
}
