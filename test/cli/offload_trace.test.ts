import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runCli } from "./support/run_cli.js";

/** Runs the command on a trace of these lines. */
async function replay(lines: readonly string[], options: readonly string[] = []) {
  using directory = temporaryDirectory();
  const path = join(directory.path, "trace.jsonl");
  writeFileSync(path, lines.map((line) => `${line}\n`).join(""));
  return await runCli(["offload-trace", path, ...options]);
}

// Expert 0 in every call, the others in turn.
const lines = Array.from({ length: 40 }, (_, call) => JSON.stringify([0, 1 + (call % 7)]));

describe("offload-trace", () => {
  test("shows the hit rate of every policy by number of slots", async () => {
    const { exitCode, stdout, stderr } = await replay(lines);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    const [title, , heading, , ...rows] = stdout.split("\n");
    expect(title).toBe("trace.jsonl: 40 calls of 8 experts");
    expect(heading?.split(/ {2,}/)).toEqual(["slots", "of experts", "lfru", "lru", "lfu", "most used"]);
    expect(rows.filter((row) => row !== "")).toHaveLength(8);
    expect((await replay(["[[0]]"])).stdout).toMatch(/^trace\.jsonl: 1 call of 1 expert\n/);
    expect(rows[1]?.trim().split(/ +/)).toEqual(["2", "25.0%", "48.8%", "48.8%", "48.8%", "57.5%"]);
    // All but the first use of each expert.
    expect(rows[7]?.trim().split(/ +/)).toEqual(["8", "100.0%", "90.0%", "90.0%", "90.0%", "100.0%"]);
  });

  test("takes tokens' lists, -1, empty lines, numbers of experts and of slots", async () => {
    const options = ["--json", "--experts", "16", "--slots", "2,4", "--slots", "16"];
    const { exitCode, stdout } = await replay(["[[3, -1], [5, 3]]", "", "[]", "[5,3]"], options);
    expect(exitCode).toBe(0);
    const counts = { hits: 2, misses: 2, evictions: 0 };
    const policies = { lfru: counts, lru: counts, lfu: counts };
    expect(JSON.parse(stdout)).toEqual({
      experts: 16,
      calls: 3,
      results: [2, 4, 16].map((slots) => ({ slots, policies, mostUsed: 1 })),
    });
  });

  test("gives the layers of several files one budget, through which every call goes in turn", async () => {
    using directory = temporaryDirectory();
    const traces = [
      ["[0, 1]", "[-1, 0]", "[2]"],
      ["[[0], [1]]", "[0]"],
    ];
    const paths = traces.map((calls, layer) => {
      const path = join(directory.path, `layer${layer}.jsonl`);
      writeFileSync(path, calls.join("\n"));
      return path;
    });
    const merged = ["[0, 1]", "[3, 4]", "[0]", "[3]", "[2]"];
    for (const experts of [[], ["--experts", "5"]] as const) {
      const options = ["--slots", "2,3", "--json", ...experts];
      const { exitCode, stdout } = await runCli(["offload-trace", ...paths, ...options]);
      expect(exitCode).toBe(0);
      const renumbered = merged.map((line) =>
        line.replace(/[34]/g, (id) => String(Number(id) + (experts.length && 2))),
      );
      const whole = await replay(renumbered, ["--slots", "2,3", "--json", "--experts", experts.length ? "10" : "5"]);
      expect(JSON.parse(stdout)).toEqual(JSON.parse(whole.stdout));
      expect(JSON.parse(stdout)).toMatchObject({ experts: experts.length ? 10 : 5, calls: 5 });
    }
    const { stdout } = await runCli(["offload-trace", ...paths]);
    expect(stdout.split("\n")[0]).toBe("2 layers: 5 calls of 5 experts");
    const { exitCode, stderr } = await runCli(["offload-trace"]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: expect.stringMatching(/expected at least one FILE/) });
  });

  test("draws the hit rates", async () => {
    using directory = temporaryDirectory();
    const chart = join(directory.path, "rates.svg");
    const { exitCode, stderr } = await replay(lines, ["--chart", chart]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    const svg = readFileSync(chart, "utf8");
    expect(svg).toMatch(/^<svg /);
    for (const name of ["lfru", "lru", "lfu", "most used experts", "hit rate"]) expect(svg).toContain(`>${name}<`);
  });

  test.each([
    [["[0, 1]", "[0, x]"], /line 2: expected a list of expert ids in JSON, got \[0, x\]/],
    [["3"], /line 1: expected a list of expert ids, got 3/],
    [["[0, 1.5]"], /line 1: expected ids from -1 to 1048575, got 1\.5/],
    [['[0, "a"]'], /line 1: expected ids from -1 to 1048575, got "a"/],
    [["[[[1]]]"], /line 1: expected ids from -1 to 1048575, got \[1\]/],
    [["[1048576]"], /line 1: expected ids from -1 to 1048575, got 1048576/],
    [[], /expected a trace with the ids of experts, got none/],
    [["[-1]"], /expected a trace with the ids of experts, got none/],
  ])("refuses %j", async (bad, message) => {
    const { exitCode, stdout, stderr } = await replay(bad);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toMatch(message);
  });

  test.each([
    [["--slots", "9"], 2, /--slots: expected at most 8, the number of experts, got 9/],
    [["--slots", "0"], 2, /--slots: expected an integer >= 1, got "0"/],
    [["--experts", "3"], 1, /expected ids below 3, got 7/],
    [["--chart", "rates.png"], 2, /--chart: expected a name in \.svg, got "rates\.png"/],
    [["--chart", "/none/rates.svg"], 1, /--chart: expected a writable file, got \/none\/rates\.svg/],
  ])("refuses %j", async (options, code, message) => {
    const { exitCode, stderr } = await replay(lines, options);
    expect(exitCode).toBe(code);
    expect(stderr).toMatch(message);
  });

  test("refuses a file that cannot be read", async () => {
    const { exitCode, stderr } = await runCli(["offload-trace", "/none/trace.jsonl"]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/\/none\/trace\.jsonl: expected a readable file/);
  });
});
