import { styleText } from "node:util";
import type { Output } from "./output.js";

/** A green ✔ or a red ✘, and the text after it in the same colour. */
export function passMark(passed: boolean, stream: Output, text = ""): string {
  return passed ? styleText("green", `✔${text}`, { stream }) : styleText("red", `✘${text}`, { stream });
}
