import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MoeLayer } from "../../lib/moe_layer.js";
import { relativeError } from "../../lib/testing/difference.js";
import { familyTokens, readFamilyResults } from "../checkpoint/support/family_model.js";
import { familyGguf, ggufFamilies } from "../checkpoint/support/gguf_family.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { rawGguf } from "../support/gguf.js";

// The golden models of the families, written as GGUF files: the metadata must lead to the authors' formula.

describe.each(deviceNames)("families from GGUF files on %s", (name) => {
  const device = openForTests(name);

  test.each<[string, string?]>([
    ...Object.keys(ggufFamilies).map((family): [string] => [family]),
    ["deepseek_v3", "deepseek32"],
    ["deepseek_v2_greedy", "deepseek"],
    ["deepseek_v2_greedy", "deepseek2-ocr"],
    ["deepseek_v2_greedy", "mistral4"],
    ["mixtral", "minimax-01"],
    ["mixtral", "arctic"],
    ...["afmoe", "bailingmoe3", "exaone-moe", "hy_v3", "hy_v4", "kimi-linear", "laguna", "step35"].map(
      (architecture): [string, string] => ["deepseek_v3", architecture],
    ),
    ["minimax_m2", "mimo2"],
    ["qwen3_moe", "rnd1"],
    ["qwen3_moe", "mellum"],
    ["gemma4", "diffusion-gemma"],
    ["glm5_next", "glm5-next"],
    ["glm4_moe", "axk2"],
    ["glm4_moe", "dots3note"],
    ["glm4_moe", "solar-open2"],
    ["qwen3_next", "qwen4exp"],
  ])("%s %s", async (family, architecture) => {
    using directory = temporaryDirectory();
    const results = await readFamilyResults(family);
    const { layer: index, ids, weights, output } = results;
    const path = join(directory.path, "model.gguf");
    writeFileSync(path, rawGguf(await familyGguf(family, index, architecture)));
    using layer = await MoeLayer.load(path, { layer: index, device: device() });
    const { x, read, options, routeOptions } = familyTokens(device(), results, "f32");
    const routing = layer.route(read, routeOptions);
    expect(await routing.ids.data()).toEqual(ids);
    expect(relativeError(await routing.weights.data(), weights)).toBeLessThanOrEqual(3e-6);
    using y = layer.forward(x, options);
    expect(relativeError(await y.data(), output)).toBeLessThanOrEqual(1e-5);
  });
});
