import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openDevice } from "../../lib/devices.js";
import { openModel } from "../../lib/moe_model.js";
import { ParallelLayer } from "../../lib/parallel/parallel_layer.js";
import { connectBanks } from "../../lib/parallel/remote_banks.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { writeRandomModel } from "../checkpoint/support/random_model.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { expectRejection } from "../support/errors.js";
import { runProgram } from "../support/run_program.js";
import { ServingProcess } from "../support/serving_process.js";
import { runCli } from "./support/run_cli.js";

const config = {
  ...{ model_type: "qwen3_moe", num_hidden_layers: 3, hidden_size: 64, moe_intermediate_size: 32 },
  ...{ num_experts: 8, num_experts_per_tok: 3, norm_topk_prob: true },
};

describe("serve", () => {
  test("lets another process use experts, until it is ended; killed and started again, it is found again", async () => {
    using directory = temporaryDirectory();
    const model = join(directory.path, "model");
    await writeRandomModel(model, config, {});
    const socket = join(directory.path, "experts.sock");
    const args = [model, "--experts", "3-7", "--layer", "0,2", "--device", "cpu", "--threads", "1"];
    await using first = new ServingProcess([...args, "--address", socket]);
    expect(await first.address()).toBe(socket);
    expect(first.stdout).toMatch(
      /^Serving experts 3-7 of layers 0, 2 at \S+experts\.sock, [\d.]+ KiB on cpu; Ctrl-C ends it\n$/,
    );
    await using device = openDevice("cpu", { threads: 1 });
    await using opened = await openModel(model);
    const near = await opened.load(2, { device, bank: { first: 0, count: 3 } });
    using whole = await opened.load(2, { device });
    using remote = await connectBanks(socket);
    expect(remote.layers).toEqual([0, 2]);
    // Layers of one shape are told apart.
    await expectRejection(ParallelLayer.create(near, [remote.bank(0)]), "INVALID_ARGUMENT", /another router/);
    const layer = await ParallelLayer.create(near, [remote.bank(2)]);
    const x = device.tensor(new Random(1).normals(64 * 7), [7, 64]);
    const expected = await whole.forward(x).data();
    const before = await (await layer.forward(x)).data();
    expect(relativeError(before, expected)).toBeLessThanOrEqual(2e-6);

    expect(await first.end("SIGKILL")).toEqual([null, "SIGKILL"]);
    expect(existsSync(socket)).toBe(true);
    await expectRejection(layer.forward(x), "CONNECTION_FAILED", /experts\.sock: /);
    await using second = new ServingProcess([...args, "--address", socket]);
    await second.address();
    expect(await (await layer.forward(x)).data()).toEqual(before);
    expect(await second.end("SIGTERM")).toEqual([0, null]);
    expect(existsSync(socket)).toBe(false);
    expect(second.stderr).toBe(`Loading ${model} ...\n`);
  });

  test("serves whole layers in another format at a free port", async () => {
    using directory = temporaryDirectory();
    const model = join(directory.path, "model");
    await writeRandomModel(model, config, {});
    const options = ["--dtype", "int8", "--token-format", "int8", "--device", "cpu", "--threads", "1"];
    await using server = new ServingProcess([model, ...options, "--cache", join(directory.path, "cache")]);
    expect(await server.address()).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(server.stdout).toContain("Serving all experts of layers 0-2 at ");
    using remote = await connectBanks(await server.address());
    expect(remote.bank(1)).toMatchObject({ layer: 1, first: 0, count: 8 });
    // A program that does not close its connection ends all the same.
    const dist = JSON.stringify(new URL("../../dist/parallel/index.js", import.meta.url).href);
    const program = `import { connectBanks } from ${dist}; console.log((await connectBanks(process.argv[2])).layers);`;
    const { status, stdout } = runProgram(directory.path, "program.mjs", program, await server.address());
    expect({ status, stdout }).toEqual({ status: 0, stdout: "[ 0, 1, 2 ]\n" });
    expect(await server.end("SIGINT")).toEqual([0, null]);
    expect(existsSync(join(directory.path, "cache"))).toBe(true);
  });

  test.each<[string[], number, RegExp]>([
    [[], 2, /expected one DIR\|FILE, got none/],
    [["nowhere"], 1, /BAD_CHECKPOINT: /],
    [["nowhere", "--experts", "1,3"], 2, /--experts: expected one range, got "1,3"/],
    [["nowhere", "--experts", "3-1"], 2, /--experts: expected a range from low to high/],
    [["nowhere", "--device", "tpu"], 2, /--device: expected/],
    [["nowhere", "--dtype", "int99"], 2, /--dtype: /],
    [["nowhere", "--token-format", "int3"], 2, /--token-format: expected one of/],
    [
      ["test/golden/families/qwen3_moe", "--experts", "8-900"],
      2,
      /--experts: expected experts within 0 to \d+, got 8 to 900/,
    ],
    [["test/golden/families/qwen3_moe", "--layer", "99"], 2, /--layer/],
    [["nowhere", "--address", "7000"], 2, /--address: expected HOST:PORT/],
    [
      ["test/golden/families/qwen3_moe", "--layer", "3", "--address", "/nowhere/x.sock"],
      1,
      /CONNECTION_FAILED: \/nowhere\/x\.sock: cannot listen/,
    ],
  ])("refuses %j", async (args, code, message) => {
    const { exitCode, stderr, stdout } = await runCli(["serve", ...args]);
    expect({ exitCode, stdout, stderr }).toEqual({
      exitCode: code,
      stdout: "",
      stderr: expect.stringMatching(message),
    });
  });
});
