import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { openModel } from "../../../lib/moe_model.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { type MetadataValue, rawGguf, type TensorInput } from "../../support/gguf.js";
import { readFamilyResults } from "../support/family_model.js";
import { familyGguf, ggufFamilies } from "../support/gguf_family.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

// What metadata and names mean to single architectures.

const reference = openForTests("reference");

/** Writes a golden model's layer under an architecture's name, changed. */
async function write(
  directory: string,
  family: string,
  architecture: string,
  more: Readonly<Record<string, MetadataValue | undefined>>,
  rename: (name: string) => string = (name) => name,
): Promise<string> {
  const { layer } = await readFamilyResults(family);
  const { metadata, tensors } = await familyGguf(family, layer, architecture);
  const changed = Object.entries(more).map(([key, value]) => [`${architecture}.${key}`, value]);
  const all = Object.entries({ ...metadata, ...Object.fromEntries(changed) }).filter(
    ([, value]) => value !== undefined,
  );
  const renamed = tensors.map((tensor): TensorInput => ({ ...tensor, name: rename(tensor.name) }));
  const path = join(directory, "model.gguf");
  writeFileSync(
    path,
    rawGguf({ metadata: Object.fromEntries(all) as Record<string, MetadataValue>, tensors: renamed }),
  );
  return path;
}

/** The configuration that a model has with these metadata. */
async function configOf(
  family: string,
  architecture: string,
  more: Readonly<Record<string, MetadataValue | undefined>> = {},
) {
  using directory = temporaryDirectory();
  await using model = await openModel(await write(directory.path, family, architecture, more));
  return model.layer(model.layersWithExperts[0] as number).config;
}

test("a bias for the choice of experts may have no suffix", async () => {
  using directory = temporaryDirectory();
  const { layer: index, x, shape, output } = await readFamilyResults("deepseek_v3");
  const path = await write(directory.path, "deepseek_v3", "hy_v3", {}, (name) =>
    name.replace(/(exp_probs_b)\.bias$/, "$1"),
  );
  using layer = await MoeLayer.load(path, { layer: index, device: reference() });
  using input = reference().tensor(x, shape);
  using y = layer.forward(input);
  expect(relativeError(await y.data(), output)).toBeLessThanOrEqual(1e-5);
});

describe("a file without the bias for the choice of experts", () => {
  const optional = ["bailingmoe2", "hy_v3", "step35", "k2-horizon"];
  const stated = [
    "afmoe",
    "axk2",
    "bailingmoe3",
    "deepseek32",
    "dots3note",
    "exaone-moe",
    "glm5-next",
    "hy_v3",
    "kimi-linear",
    "solar-open2",
  ];
  const others = ["k2-horizon", "laguna", "mimo2", "minimax-m3", "step35"];

  const own = Object.entries(ggufFamilies).map(([family, [architecture]]) => [family, architecture] as const);
  // What says nothing of its scores either is a file of DeepSeek-V2; what looks experts up by token ids has no bias.
  const cases = own.filter(([family]) => family !== "glm4_moe_lite" && family !== "deepseek_v4_hash");
  test.each([...cases, ...[...stated, ...others].map((name) => ["deepseek_v3", name] as const)])(
    "%s as %s is refused if the architecture always has one",
    async (family, architecture) => {
      const { layer } = await readFamilyResults(family);
      const { metadata, tensors } = await familyGguf(family, layer, architecture);
      const unbiased = tensors.filter(({ name }) => !name.includes("exp_probs_b"));
      if (unbiased.length === tensors.length) return;
      using directory = temporaryDirectory();
      const path = join(directory.path, "model.gguf");
      const more = {
        "glm5-next.swiglu_clamp_exp": Array(8).fill(7),
        "mimo2.expert_weights_scale": { type: "f32", value: 1 } as const,
        "mimo2.expert_group_count": 1,
      };
      writeFileSync(path, rawGguf({ metadata: { ...metadata, ...more }, tensors: unbiased }));
      const loading = MoeLayer.load(path, { layer, device: reference() });
      if (optional.includes(architecture)) (await loading).dispose();
      else {
        const missing = `tensor "blk.${layer}.exp_probs_b.bias", got none`;
        await expectRejection(loading, "BAD_CHECKPOINT", new RegExp(missing));
      }
    },
  );
});

describe("architectures whose metadata state the formula", () => {
  const unsaid = {
    ...{ expert_gating_func: undefined, expert_weights_norm: undefined, expert_weights_scale: undefined },
    ...{ expert_group_count: undefined, expert_group_used_count: undefined },
  };

  test.each([
    ["mistral4", "softmax", false],
    ["afmoe", "sigmoid", false],
    ["exaone-moe", "sigmoid", false],
    ["hy_v3", "sigmoid", false],
    ["kimi-linear", "sigmoid", true],
    ["laguna", "sigmoid", false],
    ["mimo2", "sigmoid", true],
    ["step35", "sigmoid", false],
    ["hy_v4", "sigmoid", false],
    ["gigachat35", "sigmoid", false],
    ["llada-moe", "softmax", false],
    ["rnd1", "softmax", true],
    ["mellum", "softmax", true],
    ["bailingmoe3", "sigmoid", false],
    ["axk2", "sigmoid", false],
    ["dots3note", "sigmoid", false],
    ["solar-open2", "sigmoid", false],
    ["minimax-m3", "sigmoid", false, "swiglu_clamped"],
    ["grok", "softmax", true, "geglu_tanh"],
    ["nomic-bert-moe", "softmax", false, "gelu_tanh"],
  ])("%s without them has %s, and normalises: %s", async (architecture, scoring, normalize, activation = "swiglu") => {
    const config = await configOf("deepseek_v3", architecture, unsaid);
    expect(config).toMatchObject({ scoring, normalize, scale: 1, activation });
    expect(config.groups).toBeUndefined();
  });

  test.each([
    ["expert_gating_func", 2, /grok\.expert_gating_func: expected 1 \(softmax\), got 2/],
    ["expert_weights_scale", { type: "f32", value: 2.5 } as const, /grok\.expert_weights_scale: expected 1, got 2\.5/],
    ["expert_group_count", 4, /grok\.expert_group_count: expected 1, got 4/],
  ])("%s that an architecture does not know is refused", async (key, value, message) => {
    await expectRejection(configOf("deepseek_v3", "grok", { ...unsaid, [key]: value }), "BAD_CHECKPOINT", message);
  });

  test("a normalisation beside a factor", async () => {
    const keys = { expert_weights_norm: true, expert_weights_scale: { type: "f32", value: 2.5 } as const };
    const config = await configOf("deepseek_v2_greedy", "mistral4", keys);
    expect(config).toMatchObject({ scoring: "softmax", normalize: true, scale: 2.5 });
  });

  test("scores that metadata state", async () => {
    expect(await configOf("deepseek_v3", "laguna", { expert_gating_func: 1 })).toMatchObject({ scoring: "softmax" });
    await expectRejection(
      configOf("deepseek_v3", "laguna", { expert_gating_func: 3 }),
      "BAD_CHECKPOINT",
      /laguna\.expert_gating_func: expected 1 \(softmax\) or 2 \(sigmoid\), got 3/,
    );
  });

  test("a width of experts, which may be that of dense layers", async () => {
    const keys = { ...unsaid, expert_feed_forward_length: undefined, feed_forward_length: 96 };
    expect(await configOf("deepseek_v3", "grok", keys)).toMatchObject({ intermediateSize: 96 });
  });

  test("a width of the shared expert", async () => {
    const { intermediateSize } = await configOf("deepseek_v3", "laguna");
    const one = await configOf("deepseek_v3", "laguna", {
      expert_shared_feed_forward_length: undefined,
      expert_shared_count: 2,
    });
    expect(one.sharedExpert).toMatchObject({ intermediateSize: 2 * intermediateSize });
    const other = await configOf("deepseek_v3", "laguna", {
      expert_shared_feed_forward_length: 48,
      expert_shared_count: 2,
    });
    expect(other.sharedExpert).toMatchObject({ intermediateSize: 48 });
  });

  /** Limits of every layer or, as in files of Step 3.5, of one. */
  const limits = (exp: number, shexp: number, at?: number) => {
    const value = (limit: number) => Array.from({ length: 8 }, (_, index) => (index === (at ?? index) ? limit : 0));
    return {
      swiglu_clamp_exp: { type: "array", of: "f32", value: value(exp) },
      swiglu_clamp_shexp: { type: "array", of: "f32", value: value(shexp) },
    } as const;
  };
  const none = Number.POSITIVE_INFINITY;
  const clamp = (limit: number) => ({ alpha: 1, limit, offset: 0 });

  test.each([
    ["step35", "swiglu_clamped_after"],
    ["bailingmoe3", "swiglu_clamped_after"],
    ["hy_v4", "swiglu_clamped"],
    ["gigachat35", "swiglu_clamped"],
  ])("limits of layers of %s", async (architecture, activation) => {
    const { layer } = await readFamilyResults("deepseek_v3");
    const other = await configOf("deepseek_v3", architecture, limits(7, 5, layer + 1));
    expect(other).toMatchObject({ activation: "swiglu" });
    expect(other.clamp).toBeUndefined();
    const both = await configOf("deepseek_v3", architecture, limits(7, 5, layer));
    expect(both).toMatchObject({ activation, clamp: clamp(7), sharedExpert: { clamp: clamp(5) } });
    const routed = await configOf("deepseek_v3", architecture, limits(7, 0));
    expect(routed).toMatchObject({ activation, clamp: clamp(7), sharedExpert: { clamp: clamp(none) } });
    const shared = await configOf("deepseek_v3", architecture, limits(0, 5));
    expect(shared).toMatchObject({ activation, clamp: clamp(none), sharedExpert: { clamp: clamp(5) } });
    const alike = await configOf("deepseek_v3", architecture, limits(7, 7));
    expect(alike).toMatchObject({ activation, clamp: clamp(7) });
    expect(alike.sharedExpert?.clamp).toBeUndefined();
    const one = { swiglu_clamp_exp: { type: "f32", value: 7 } } as const;
    expect(await configOf("deepseek_v3", architecture, one)).toMatchObject({ activation, clamp: clamp(7) });
    await expectRejection(
      configOf("deepseek_v3", architecture, limits(-1, 0)),
      "BAD_CHECKPOINT",
      new RegExp(`${architecture}\\.swiglu_clamp_exp\\[${layer}\\]: expected a limit > 0, or 0 for none, got -1`),
    );
  });

  test.each(["glm5next", "glm5-next"])(
    "limits of %s, which files must state, if not the shared expert's",
    async (name) => {
      const { swiglu_clamp_exp } = limits(7, 0);
      const one = await configOf("deepseek_v3", name, { swiglu_clamp_exp });
      expect(one).toMatchObject({ activation: "swiglu_clamped", clamp: clamp(7) });
      expect(one.sharedExpert?.clamp).toBeUndefined();
      const none = await configOf("deepseek_v3", name, limits(7, 0));
      expect(none.sharedExpert).toMatchObject({ clamp: clamp(Number.POSITIVE_INFINITY) });
      await expectRejection(
        configOf("deepseek_v3", name),
        "BAD_CHECKPOINT",
        new RegExp(`${name}\\.swiglu_clamp_exp\\[\\d\\]: expected a limit > 0, or 0 for none, got undefined`),
      );
    },
  );

  test("limits of maple, which are 7 if files do not say", async () => {
    const alike = { scoring: "softmax", normalize: true, activation: "swiglu_clamped" };
    expect(await configOf("qwen3_moe", "maple")).toMatchObject({ ...alike, clamp: clamp(7) });
    const stated = { swiglu_clamp_exp: { type: "f32", value: 5 } } as const;
    expect(await configOf("qwen3_moe", "maple", stated)).toMatchObject({ ...alike, clamp: clamp(5) });
  });

  test("scores of k2-horizon, which files must state", async () => {
    expect(await configOf("deepseek_v3", "k2-horizon")).toMatchObject({ scoring: "sigmoid", normalize: true });
    await expectRejection(
      configOf("deepseek_v3", "k2-horizon", { expert_gating_func: undefined }),
      "BAD_CHECKPOINT",
      /k2-horizon\.expert_gating_func: expected 1 \(softmax\) or 2 \(sigmoid\), got undefined/,
    );
  });

  test.each(["deepseek2", "laguna"])("limits that %s does not have are refused", async (architecture) => {
    const { layer } = await readFamilyResults("deepseek_v3");
    await configOf("deepseek_v3", architecture, limits(0, 5, layer + 1));
    await expectRejection(
      configOf("deepseek_v3", architecture, limits(0, 5)),
      "BAD_CHECKPOINT",
      new RegExp(`${architecture}\\.swiglu_clamp_shexp\\[${layer}\\]: expected 0, as .* got 5`),
    );
  });
});

describe("ERNIE's shared expert", () => {
  test("has the width that the metadata state", async () => {
    const { intermediateSize, sharedExpert } = await configOf("ernie4_5_moe", "ernie4_5-moe");
    const width = sharedExpert?.intermediateSize as number;
    const keys = { expert_shared_count: 0, expert_shared_feed_forward_length: width };
    expect(await configOf("ernie4_5_moe", "ernie4_5-moe", keys)).toMatchObject({ sharedExpert });
    await expectRejection(
      configOf("ernie4_5_moe", "ernie4_5-moe", { expert_shared_feed_forward_length: intermediateSize + 1 }),
      "BAD_CHECKPOINT",
      /expert_shared_feed_forward_length: expected a multiple of /,
    );
  });
});

describe("Kimi K3", () => {
  const latent = "kimi_linear_latent";

  test("has its experts on a projection, with a norm if there is its weight", async () => {
    const config = await configOf(latent, "kimi-k3");
    expect(config).toMatchObject({ activation: "situ", scale: 1, normalize: true });
    expect(config.latent).toMatchObject({ size: 14 });
    expect(config.latent?.norm?.epsilon).toBeCloseTo(1e-2, 8);
    using directory = temporaryDirectory();
    const path = await write(directory.path, latent, "kimi-k3", {}, (name) =>
      name.replace("ffn_routed_norm", "attn_norm"),
    );
    await using model = await openModel(path);
    expect(model.layer(1).config.latent).toEqual({ size: 14 });
  });

  test("has limits that files must state, of which the second may be none", async () => {
    const none = { "activation.situ_linear_beta": { type: "f32", value: 0 } } as const;
    const { clamp } = await configOf("kimi_linear_situ", "kimi-k3", none);
    expect(Object.keys(clamp ?? {})).toEqual(["limit"]);
    await expectRejection(
      configOf("kimi_linear_situ", "kimi-k3", { "activation.situ_beta": undefined }),
      "BAD_CHECKPOINT",
      /kimi-k3\.activation\.situ_beta: expected a number, got undefined/,
    );
  });
});

describe("Command A+", () => {
  test("has shared experts, or none to average with", async () => {
    const config = await configOf("cohere2_moe_average", "cohere2moe");
    const rule = { scoring: "sigmoid", selectionKey: "logit", normalize: true, scale: 0.5 };
    expect(config).toMatchObject({ ...rule, sharedExpert: { intermediateSize: 2 * config.intermediateSize } });
    const keys = { expert_shared_count: undefined, expert_shared_feed_forward_length: undefined };
    using directory = temporaryDirectory();
    const path = await write(directory.path, "cohere2_moe_average", "cohere2moe", keys, (name) =>
      name.replace(/ffn_(\w+)_shexp/, "other_$1"),
    );
    await using model = await openModel(path);
    const alone = model.layer(1).config;
    expect(alone).toMatchObject({ ...rule, scale: 1 });
    expect(alone.sharedExpert).toBeUndefined();
  });

  test("is not renormalised if files do not say so, and has no factor", async () => {
    const keys = { expert_weights_norm: undefined };
    expect(await configOf("cohere2_moe_average", "cohere2moe", keys)).toMatchObject({ normalize: false });
    await expectRejection(
      configOf("cohere2_moe_average", "cohere2moe", { expert_weights_scale: { type: "f32", value: 2 } as const }),
      "BAD_CHECKPOINT",
      /cohere2moe\.expert_weights_scale: expected 1, got 2/,
    );
  });
});

test("SmallThinker's files must say how they score", async () => {
  await expectRejection(
    configOf("smallthinker", "smallthinker", { expert_gating_func: undefined }),
    "BAD_CHECKPOINT",
    /smallthinker\.expert_gating_func: expected 1 \(softmax\) or 2 \(sigmoid\), got undefined/,
  );
});

test.each([
  ["longcat_flash", "longcat-flash-ngram", ["ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"]],
  ["mixtral", "arctic", ["ffn_gate", "ffn_up", "ffn_down", "ffn_norm_exps"]],
  ["glm4_moe", "axk2", ["ffn_norm_gate_a", "ffn_norm_gate_b"]],
  ["kimi_linear_situ", "kimi-k3", ["ffn_res_score"]],
])("%s as %s: a dense block beside the experts and norms before them are not part of the layer", async (...given) => {
  const [family, architecture, names] = given;
  using directory = temporaryDirectory();
  const { layer: index, x, shape, output } = await readFamilyResults(family);
  const file = await familyGguf(family, index, architecture);
  const others = names.map((name): TensorInput => {
    return { name: `blk.${index}.${name}.weight`, type: "F32", shape: [4, 4], data: new Uint8Array(64) };
  });
  const path = join(directory.path, "model.gguf");
  writeFileSync(path, rawGguf({ ...file, tensors: [...file.tensors, ...others] }));
  using layer = await MoeLayer.load(path, { layer: index, device: reference() });
  using input = reference().tensor(x, shape);
  using y = layer.forward(input);
  expect(relativeError(await y.data(), output)).toBeLessThanOrEqual(1e-5);
});

test("LongCat has no normalisation", async () => {
  await expectRejection(
    configOf("longcat_flash", "longcat-flash-ngram", { expert_weights_norm: true }),
    "BAD_CHECKPOINT",
    /longcat-flash-ngram\.expert_weights_norm: expected false, got true/,
  );
});

test.each(["graniteswitch", "motif3"])("%s is refused by name", async (name) => {
  await expectRejection(
    configOf("deepseek_v3", name),
    "BAD_CHECKPOINT",
    new RegExp(`general\\.architecture: "${name}" is not supported, as `),
  );
});

test.each(["moe_latent_size", "expert_latent_length"])(
  "Nemotron's %s is the width of its experts' tokens",
  async (key) => {
    const { latent } = await configOf("nemotron_h_latent", "nemotron_h_moe", { [key]: 14 });
    expect(latent).toEqual({ size: 14 });
    expect((await configOf("nemotron_h", "nemotron_h_moe")).latent).toBeUndefined();
  },
);
