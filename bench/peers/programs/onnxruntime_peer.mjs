// onnxruntime's CPU provider as a peer. Answers commands, one JSON line each, as described in ../peer_process.ts.

import { closeSync, copyFileSync, existsSync, openSync, writeFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { SafetensorsFile } from "../../../dist/checkpoint/safetensors/index.js";
import { moeOperator, plainOperators, quantizedMoeOperator, quantizedOperators } from "./onnxruntime_models.mjs";

const builders = {
  moe: moeOperator,
  plain: plainOperators,
  qmoe: quantizedMoeOperator,
  nbits: quantizedOperators,
  "nbits-int8": (file, config) => quantizedOperators(file, config, 4),
};
const { variant, directory, weights, config, threads, copies } = JSON.parse(process.argv[2]);

const file = await SafetensorsFile.open(join(directory, weights));
const sessions = [];
while (sessions.length < copies) sessions.push(await load(sessions.length));
const inputs = new Map();

const commands = {
  async outputs({ tokens, path }) {
    const target = openSync(path, "w");
    for (const feeds of await inputsOf(tokens)) {
      const [y] = Object.values(await sessions[0].run(feeds));
      writeSync(target, y.data);
    }
    closeSync(target);
  },

  async time({ tokens, seconds }) {
    const feedsOfAll = await inputsOf(tokens);
    const times = [];
    const begin = performance.now();
    do {
      for (const feeds of feedsOfAll) {
        const session = sessions[times.length % copies];
        const start = performance.now();
        await session.run(feeds);
        times.push((performance.now() - start) / 1e3);
      }
    } while (performance.now() - begin < seconds * 1e3);
    return times;
  },
};

/** A session with a file of its own: onnxruntime maps it, so that copies of one file would share their memory. */
async function load(copy) {
  const name = copy === 0 ? basename(weights) : `copy${copy}.${basename(weights)}`;
  if (!existsSync(join(directory, name))) copyFileSync(join(directory, weights), join(directory, name));
  const modelPath = join(directory, `${variant}.${copy}.onnx`);
  writeFileSync(modelPath, builders[variant]({ name, tensors: file.tensors }, config));
  return InferenceSession.create(modelPath, {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
    extra: { session: { force_spinning_stop: "1" } }, // else the threads of one session disturb the next
  });
}

async function inputsOf(tokens) {
  const known = inputs.get(tokens);
  if (known !== undefined) return known;
  const read = async (name) => {
    const { shape, data } = await file.read(name);
    return new Tensor("float32", data, shape);
  };
  const loaded = [];
  for (let index = 0; file.tensors.has(`x.${tokens}.${index}`); index++) {
    loaded.push({ x: await read(`x.${tokens}.${index}`), logits: await read(`logits.${tokens}.${index}`) });
  }
  inputs.set(tokens, loaded);
  return loaded;
}

const { version } = createRequire(import.meta.url)("onnxruntime-node/package.json");
answer({ result: `onnxruntime-node ${version}` });
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  answer({ result: (await commands[command.name](command)) ?? null });
}

function answer(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}
