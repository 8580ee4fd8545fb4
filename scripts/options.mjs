// The command lines of the scripts. A wrong one is one message, the usage and exit code 2.
import { parseArgs } from "node:util";

/** Parses the command line as parseArgs of node:util does. `--help` prints the usage and ends the process. */
export function readOptions(usage, { options = {}, ...config }) {
  let parsed;
  try {
    parsed = parseArgs({ ...config, options: { ...options, help: { type: "boolean", short: "h" } } });
  } catch (error) {
    return wrongOption(usage, error.message);
  }
  if (!parsed.values.help) return parsed;
  console.log(usage);
  process.exit(0);
}

/** Ends the process: `message` says what was expected and what came. */
export function wrongOption(usage, message) {
  console.error(`${message}\n${usage}`);
  process.exit(2);
}
