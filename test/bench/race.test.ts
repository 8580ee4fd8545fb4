import { expect, test } from "vitest";
import type { CaseOptions } from "../../lib/bench/bench_case.js";
import { layerCases } from "../../lib/bench/layer_cases.js";
import { race } from "../../lib/bench/race.js";
import { openDevice } from "../../lib/devices.js";

const config = { hiddenSize: 48, intermediateSize: 32, numExperts: 6, topK: 2, normalize: true };
const options: CaseOptions = {
  ...{ config, dtype: "f32", format: "f32", tokenFormat: "none", tokenCounts: [7], weightBytes: 0 },
};

test("reading memory has a turn in every round, if it is asked for", async () => {
  using device = openDevice("cpu", { threads: 1 });
  const turns: number[] = [];
  const readRate = async (seconds: number) => 10 * turns.push(seconds);
  const timed = { seconds: 0.003, rounds: 3, calls: 1, contenders: [] };
  for await (const benchCase of layerCases(device, options)) {
    const [first, second] = await race(device, [benchCase, benchCase], { ...timed, readRate });
    expect(turns).toEqual([0.001, 0.001, 0.001]);
    for (const measured of [first, second]) {
      expect(measured?.readGBs).toEqual([10, 20, 30]);
      expect(measured?.worked).toHaveLength(3);
      expect(measured?.total.median).toBeGreaterThan(0);
    }
    expect(await race(device, [benchCase], { ...timed, readRate: null })).toMatchObject([{ readGBs: null }]);
  }
});
