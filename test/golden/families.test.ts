import { describe, expect, test } from "vitest";
import { families } from "../../lib/checkpoint/families/registry.js";
import { Model } from "../../lib/checkpoint/model.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { relativeError } from "../../lib/testing/difference.js";
import {
  familyModelNames,
  familyModelPath,
  familyTokens,
  readFamilyResults,
} from "../checkpoint/support/family_model.js";
import { kernelPaths, openForTests } from "../support/devices.js";

test("every family has a golden model", async () => {
  const made = await Promise.all(familyModelNames.map((name) => Model.read(familyModelPath(name))));
  // These have the formula and names of the family beside them, which family_layers.test.ts renames; hunyuan.test.ts holds
  // hunyuan against loops of its own.
  const others = [
    "minimax_m1", // minimax_text_01
    "deepseek", // deepseek_v2
    "deepseek_ocr2_text", // deepseek_v2
    "deepseek_v32", // deepseek_v3
    "axk1", // deepseek_v3
    "axk2", // glm4_moe
    "solar_open", // glm4_moe
    "solar_open2", // glm4_moe
    "xing4_0", // glm4_moe
    "step4", // step3p5
    "berrylm", // qwen3_next
    "mimo_v2", // mimo_v2_flash
    "bailing_moe_v2", // bailing_moe
    "bailing_moe_linear", // bailing_moe_v2
    "llada2_moe", // bailing_moe_v2
    "qwen3_omni_moe_text", // qwen3_moe
    "mellum", // qwen3_moe
    "qwen4_exp_text", // qwen3_next
    "qwen3_8_flash_next_text", // qwen3_next
    "flex_olmo", // olmoe
    "longcat_flash_ngram", // longcat_flash
    "longcat_next", // longcat_flash
    "openai_privacy_filter", // gpt_oss
    "hunyuan",
  ];
  const expected = [...families.keys()].filter((modelType) => !others.includes(modelType));
  expect([...new Set(made.map(({ family }) => family.modelType))].toSorted()).toEqual(expected.toSorted());
});

describe.each(kernelPaths)("families on $label", (path) => {
  const device = openForTests(path);

  test.each(familyModelNames)("%s in float32", async (name) => {
    const results = await readFamilyResults(name);
    const { layer: index, shape, ids, weights, output } = results;
    using layer = await MoeLayer.load(familyModelPath(name), { layer: index, device: device(), dtype: "f32" });
    const { x, read, options, routeOptions } = familyTokens(device(), results, "f32");
    const routing = layer.route(read, routeOptions);
    expect(await routing.ids.data()).toEqual(ids);
    expect(relativeError(await routing.weights.data(), weights)).toBeLessThanOrEqual(3e-6);
    using y = layer.forward(x, options);
    expect(y.shape).toEqual(shape);
    expect(relativeError(await y.data(), output)).toBeLessThanOrEqual(1e-5);
  });
});

describe("families in float64", () => {
  const device = openForTests("reference");

  test.each(familyModelNames)("%s", async (name) => {
    const results = await readFamilyResults(name);
    const { layer: index, ids, weights, output } = results;
    using layer = await MoeLayer.load(familyModelPath(name), { layer: index, device: device(), dtype: "f64" });
    const { x, read, options, routeOptions } = familyTokens(device(), results, "f64");
    const routing = layer.route(read, routeOptions);
    expect(await routing.ids.data()).toEqual(ids);
    expect(relativeError(await routing.weights.data(), weights)).toBeLessThanOrEqual(1e-12);
    using y = layer.forward(x, options);
    expect(relativeError(await y.data(), output)).toBeLessThanOrEqual(1e-12);
  });
});
