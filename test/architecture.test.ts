import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { describe, expect, test } from "vitest";

// Dependencies only point down. The tables below list the rooms of each tree and what each may see; ARCHITECTURE.md
// says why.

const root = join(import.meta.dirname, "..");

/** The files that each file uses, by its path from the root. */
type Graph = ReadonlyMap<string, readonly string[]>;

function filesBelow(folder: string, pattern: RegExp): string[] {
  const names = readdirSync(join(root, folder), { recursive: true, encoding: "utf8" });
  return names.filter((name) => pattern.test(name)).map((name) => normalize(join(folder, name)));
}

function graphOf(files: readonly string[], used: (file: string, text: string) => string[]): Graph {
  const known = new Set(files);
  return new Map(
    files.map((file) => [file, used(file, readFileSync(join(root, file), "utf8")).filter((name) => known.has(name))]),
  );
}

/** The dependencies that a table of rooms forbids. `roomOf` returns a file's room; a room may always see itself. */
function forbidden(graph: Graph, roomOf: (file: string) => string, allowed: Record<string, readonly string[]>) {
  return [...graph].flatMap(([file, used]) =>
    used.flatMap((other) => {
      const [from, to] = [roomOf(file), roomOf(other)];
      return from === to || allowed[from]?.includes(to) ? [] : [`${file} -> ${other}`];
    }),
  );
}

/** The cycles of a graph: its strongly connected components of more than one file (Tarjan). */
function circles(graph: Graph): string[][] {
  const found: string[][] = [];
  const order = new Map<string, number>();
  const lowest = new Map<string, number>();
  const stack: string[] = [];
  const visit = (file: string): void => {
    order.set(file, order.size);
    lowest.set(file, order.get(file) as number);
    stack.push(file);
    for (const other of graph.get(file) ?? []) {
      if (!order.has(other)) visit(other);
      if (!stack.includes(other)) continue;
      lowest.set(file, Math.min(lowest.get(file) as number, lowest.get(other) as number));
    }
    if (lowest.get(file) !== order.get(file)) return;
    const circle = stack.splice(stack.indexOf(file));
    if (circle.length > 1) found.push(circle.sort());
  };
  for (const file of graph.keys()) if (!order.has(file)) visit(file);
  return found;
}

describe("lib", () => {
  const graphBy = (importing: RegExp) =>
    graphOf(filesBelow("lib", /\.ts$/), (file, text) =>
      Array.from(text.matchAll(importing), ([, path]) => normalize(join(dirname(file), `${path}.ts`))),
    );
  const graph = graphBy(/(?:from|import)\s*\(?\s*"(\.[^"]+)\.js"/g);
  const roomOf = (file: string) => relative("lib", file).split("/")[0] as string;
  const below = {
    core: [],
    reference: ["core"],
    "devices.ts": ["core", "reference"],
    operators: ["core"],
    optimizers: ["core", "operators"],
    layer: ["core", "operators", "optimizers"],
    checkpoint: ["core", "operators", "layer"],
    "moe_layer.ts": ["core", "operators", "layer", "checkpoint"],
    "moe_model.ts": ["core", "operators", "layer", "checkpoint", "moe_layer.ts"],
    parallel: ["core", "operators", "layer", "moe_layer.ts"],
    statistics: ["core", "operators"],
    terminal: ["core"],
  };
  const rooms: Record<string, readonly string[]> = {
    ...below,
    testing: Object.keys(below),
    bench: [...Object.keys(below), "testing"],
    cli: [...Object.keys(below), "testing", "bench"],
    "index.ts": Object.keys(below),
  };

  test("every import resolves, of types too", () => {
    const imports = [...graph.values()].reduce((total, used) => total + used.length, 0);
    expect(graph.size).toBeGreaterThan(150);
    expect(imports).toBeGreaterThan(600);
    expect(graph.get("lib/moe_layer.ts")).toContain("lib/checkpoint/load/load_layer.ts");
  });

  test("rooms see only what is below them", () => {
    expect(forbidden(graph, roomOf, rooms)).toEqual([]);
  });

  test("no file imports itself by a detour", () => {
    // A device makes tensors and a tensor knows its device: one unit in two files.
    expect(circles(graph)).toEqual([["lib/core/device/device.ts", "lib/core/tensors/tensor.ts"]]);
  });

  test("the command line starts without what only some commands need", () => {
    const atStart = graphBy(/from\s*"(\.[^"]+)\.js"/g);
    const reached = new Set(["lib/cli/main.ts"]);
    for (const file of reached) for (const other of atStart.get(file) ?? []) reached.add(other);
    expect(reached).toContain("lib/cli/command_list.ts");
    expect(new Set([...reached].map(roomOf))).toEqual(new Set(["cli", "core", "terminal"]));
  });
});

test("examples use nothing of the package but its exports", () => {
  const files = filesBelow("examples", /\.ts$/);
  expect(files.length).toBeGreaterThan(20);
  const imports = files.flatMap((file) =>
    Array.from(readFileSync(join(root, file), "utf8").matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g), ([, name]) => ({
      file,
      name: name as string,
    })),
  );
  const outside = imports.filter(({ file, name }) => {
    if (!name.startsWith(".")) return !/^(node:|moe-kernels(\/\w+)?$|@huggingface\/(jinja|tokenizers)$)/.test(name);
    return !normalize(join(dirname(file), name)).startsWith("examples/");
  });
  expect(outside).toEqual([]);
});

describe("native", () => {
  const including = /^\s*#\s*include\s+"([^"]+)"/gm;
  const files = filesBelow("native", /\.(h|cc|cu|cuh)$/);
  const graph = graphOf(files, (_file, text) =>
    Array.from(text.matchAll(including), ([, path]) => normalize(join("native", path as string))),
  );
  /** A GPU device's targets (CUDA and the simulated GPU) are rooms of their own, as is the list of devices. */
  const roomOf = (file: string) => {
    const [room, second, third] = relative("native", file).split("/") as [string, string?, string?];
    if (room === "gpu" && second === "target") return `gpu/target/${third}`;
    if (/^binding\/(devices|machine)\./.test(`${room}/${second}`)) return "binding/devices";
    return room;
  };

  test("every include resolves", () => {
    const includes = [...graph.values()].reduce((total, used) => total + used.length, 0);
    expect(graph.size).toBeGreaterThan(200);
    expect(includes).toBeGreaterThan(500);
  });

  test("core sees no backend, kernels see core and the wrappers, and one list in the binding knows the devices", () => {
    const rooms = {
      core: [],
      cpu: ["core"],
      simt: ["core"],
      gpu: ["core"],
      "gpu/target/cuda": ["core", "gpu"],
      "gpu/target/simt": ["core", "gpu", "simt"],
      binding: ["core", "binding/devices"],
      "binding/devices": ["core", "binding", "cpu", "simt", "gpu/target/cuda", "gpu/target/simt"],
      "addon.cc": ["binding", "binding/devices"],
    };
    expect(forbidden(graph, roomOf, rooms)).toEqual([]);
  });

  test("no file includes itself by a detour", () => {
    expect(circles(graph)).toEqual([]);
  });

  // Tables of all instruction sets are asked on every CPU, so their predicates must not have the instructions of one.
  test("what kernels take is compiled for any CPU", () => {
    const predicate = /\bbool\s+(takes_\w+)\s*\(/g;
    const found = [...graph.keys()].flatMap((file) =>
      Array.from(readFileSync(join(root, file), "utf8").matchAll(predicate), ([, name]) => ({ file, name })),
    );
    expect(found.length).toBeGreaterThan(4);
    expect(found.filter(({ file }) => file.startsWith("native/cpu/isa/"))).toEqual([]);
  });
});
