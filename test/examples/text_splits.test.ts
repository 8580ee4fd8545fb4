import { expect, test } from "vitest";
import { textSplits as inExample } from "../../build/examples/language_model/text/text_splits.js";
import { textSplits } from "../../lib/checkpoint/quantize/gguf/text_splits.js";

test("the example splits texts as the GGUF files that the package writes say", () => {
  expect(textSplits.size).toBeGreaterThan(2);
  expect([...inExample]).toEqual(expect.arrayContaining([...textSplits]));
});
