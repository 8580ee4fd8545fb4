import { describe, expect, test } from "vitest";
import { weightFormat } from "#lib/core/formats/weight_formats.js";
import { openDevice } from "#lib/devices.js";
import type { MoeLayerConfig } from "#lib/layer/description/config.js";
import { type PeerFormat, partsOf } from "../../bench/peers/formats.js";
import { ours } from "../../bench/peers/ours.js";
import { PeerProcess, type PeerSetup } from "../../bench/peers/peer_process.js";
import { type Command, peers } from "../../bench/peers/peers.js";
import { createProblem, weightsFile } from "../../bench/peers/problem.js";
import { checkOutputs, checkParts } from "../../bench/peers/rounds.js";
import { gradientSizes, ourTraining } from "../../bench/peers/training.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { leftOut } from "../support/requirements.js";

// Columns beyond whole slices of 64, and whole groups of quantised weights.
function columns(format: PeerFormat): { hiddenSize: number; intermediateSize: number } {
  const { scales, superScales } = weightFormat(partsOf(format).weights);
  if (superScales !== undefined) return { hiddenSize: 512, intermediateSize: 256 };
  return scales?.columns ? { hiddenSize: 384, intermediateSize: 128 } : { hiddenSize: 144, intermediateSize: 80 };
}

/** What rounding explains, relative to the largest output: other software rounds tokens in groups, we round them whole. */
function expectedDifference(format: PeerFormat): number {
  const { tokens, tokenFormat } = partsOf(format);
  if (tokenFormat === "int8") return format.startsWith("i8_channel") ? 0.02 : 0.05;
  return tokens === "bf16" ? 0.015 : 1e-5;
}

describe.each(peers.map((peer) => ({ ...peer, found: peer.command() })))(
  "$name",
  ({ name, variant, formats, trains, lacks, found }) => {
    // Some texts go on with what a compiler said.
    const [remedy = ""] = typeof found === "string" ? found.split("; ") : [];
    const options = remedy === "" ? {} : leftOut(name.replace(`-${variant}`, ""), remedy);
    const layer = (format: PeerFormat, normalize: boolean) => ({
      ...columns(format),
      numExperts: 5,
      topK: 2,
      normalize,
    });
    const cases = formats.flatMap((format) =>
      [true, false]
        .filter((normalize) => !lacks?.(layer(format, normalize), format))
        .map((normalize) => [format, normalize] as const),
    );
    const start = (directory: string, config: MoeLayerConfig, more: Pick<PeerSetup, "copies" | "training">) =>
      PeerProcess.start(name, found as Command, {
        variant,
        directory,
        weights: weightsFile,
        config,
        threads: 2,
        ...more,
      });

    test.each(cases)("computes what we compute: %s, normalize %j", options, async (format, normalize) => {
      using folder = temporaryDirectory();
      using device = openDevice("cpu", { threads: 2 });
      // Experts without tokens, and, with 900 tokens, several blocks of rows.
      const config = layer(format, normalize);
      using problem = await createProblem(device, config, format, [1, 7, 900], folder.path);
      using peer = await start(folder.path, config, { copies: 3, training: false });
      expect(peer.version).toMatch(/^\S+ \d+\.\d+/);
      const [own] = ours(problem);
      for (const tokens of [900, 1, 7]) {
        const difference = checkOutputs(name, await peer.outputs(tokens), await own.outputs(tokens), format);
        expect(difference).toBeLessThan(expectedDifference(format));
        const times = await peer.time(tokens, 0.001);
        expect(times.length % (tokens === 900 ? 4 : 16)).toBe(0);
        for (const seconds of times) expect(seconds).toBeGreaterThan(0);
      }
    });

    test.each(trains ? cases : [])(
      "has the gradients that we have: %s, normalize %j",
      options,
      async (format, normalize) => {
        using folder = temporaryDirectory();
        using device = openDevice("cpu", { threads: 2 });
        const config = layer(format, normalize);
        using problem = await createProblem(device, config, format, [7, 900], folder.path, { training: true });
        using peer = await start(folder.path, config, { copies: 1, training: true });
        const own = ourTraining(problem);
        for (const tokens of [900, 7]) {
          const [theirs, expected] = [await peer.outputs(tokens), await own.outputs(tokens)];
          const difference = checkParts(name, theirs, expected, gradientSizes(problem, tokens), format);
          expect(difference).toBeLessThan(format === "bf16" ? 0.03 : 1e-5);
          expect(await peer.kept(tokens)).toBeGreaterThan(tokens * config.topK * 4 * config.intermediateSize);
          expect((await peer.time(tokens, 0.001)).length % (tokens === 900 ? 4 : 16)).toBe(0);
        }
      },
    );
  },
);
