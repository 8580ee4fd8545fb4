import { isMoeError } from "../../core/errors.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import type { Reader } from "../../core/input/options.js";
import { storageFormat } from "../../layer/description/storage.js";
import { UsageError } from "../../terminal/option_values.js";

/**
 * A dtype or a weight format, ignoring case.
 * @param read what the option takes; default all that layers can be stored in.
 * @throws UsageError
 */
export function formatOption(
  option: string,
  text: string,
  read: Reader<WeightFormatName> = storageFormat,
): WeightFormatName {
  try {
    return read(text.toLowerCase(), `--${option}`);
  } catch (error) {
    throw isMoeError(error) ? new UsageError(error.message) : error;
  }
}
