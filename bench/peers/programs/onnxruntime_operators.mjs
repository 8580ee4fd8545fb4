// Operators as graphs of a node or two, for ../onnxruntime.ts.

import { createRequire } from "node:module";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { DataType, Graph } from "./onnx_graph.mjs";

/** What an operator is in onnxruntime: the arrays that it reads, those of them that a model has as constants, and its nodes. */
const counterparts = {
  routerProjection: {
    inputs: ["x"],
    constants: ["weight"],
    // Transposed when the session is created.
    nodes: (graph) => ({ logits: graph.node("MatMul", ["x", graph.node("Transpose", ["weight"], { perm: [1, 0] })]) }),
  },
  gating: {
    inputs: ["logits"],
    nodes(graph, { rule }) {
      const top = (scores) => graph.nodes(2, "TopK", [scores, graph.integers([rule.topK])]);
      if (rule.normalization === "none") {
        const [weights, ids] = top(graph.node("Softmax", ["logits"]));
        return { ids, weights };
      }
      // The softmax of the chosen logits is that of all, divided by its sum over the chosen.
      const [chosen, ids] = top("logits");
      return { ids, weights: graph.node("Softmax", [chosen]) };
    },
  },
  lookUpExperts: {
    inputs: ["tokenIds"],
    constants: ["table"],
    nodes: (graph) => ({ ids: graph.node("Gather", ["table", "tokenIds"]) }),
  },
  permute: { inputs: ["x", "tokenOfRow"], nodes: (graph) => ({ rows: graph.node("Gather", ["x", "tokenOfRow"]) }) },
  unpermute: {
    inputs: ["rows", "rowOfSlot"],
    nodes: (graph) => ({ slots: graph.node("Gather", ["rows", "rowOfSlot"]) }),
  },
  copyMatrix: { inputs: ["source"], nodes: (graph) => ({ target: graph.node("Identity", ["source"]) }) },
  rmsNorm: {
    inputs: ["x"],
    constants: ["weight"],
    nodes: (graph, { epsilon }) => ({
      y: graph.node("SimplifiedLayerNormalization", ["x", "weight"], { epsilon: { float: epsilon } }),
    }),
  },
  columnMeans: {
    inputs: ["values"],
    nodes: (graph) => ({ means: graph.node("ReduceMean", ["values"], { axes: [0] }) }),
  },
};

/** What the dtypes of arrays are called. */
const types = {
  f32: { onnx: DataType.FLOAT, tensor: "float32" },
  i32: { onnx: DataType.INT32, tensor: "int32" },
};

export const { version } = createRequire(import.meta.url)("onnxruntime-node/package.json");

/** Opens a session that computes an operator; see ../onnxruntime.ts. */
export async function openCounterpart(operator, calls, threads) {
  if (!Object.hasOwn(counterparts, operator)) return undefined;
  const { inputs, constants = [], nodes } = counterparts[operator];
  const [first] = calls;
  const graph = new Graph();
  for (const name of constants) {
    const { data, shape, dtype } = first[name];
    const rawData = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    graph.initializer(name, { dims: shape, dataType: types[dtype].onnx, rawData });
  }
  const outputs = nodes(graph, first);
  const model = graph.model(
    inputs.map((name) => ({ name, type: types[first[name].dtype].onnx, shape: first[name].shape })),
    Object.values(outputs).map((name) => ({ name })),
  );
  const session = await InferenceSession.create(model, {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    extra: { session: { force_spinning_stop: "1" } }, // else its threads disturb what is timed next
  });
  const feeds = calls.map((call) =>
    Object.fromEntries(
      inputs.map((name) => [name, new Tensor(types[call[name].dtype].tensor, call[name].data, call[name].shape)]),
    ),
  );
  let next = 0;
  return {
    run: () => session.run(feeds[next++ % feeds.length]),
    async firstOutputs() {
      const results = await session.run(feeds[0]);
      return Object.fromEntries(
        Object.entries(outputs).map(([name, value]) => [name, Float64Array.from(results[value].data, Number)]),
      );
    },
    release: () => session.release(),
  };
}
