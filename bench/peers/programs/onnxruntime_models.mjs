import { DataLocation, DataType, Graph } from "./onnx_graph.mjs";

/**
 * The MoE layer as one node: onnxruntime's own operator, which needs gate and up rows interleaved (`swiglu_fusion` 1).
 */
export function moeOperator(file, config) {
  const graph = new LayerGraph(file, config);
  return graph.model(moeNode(graph, "MoE", [graph.pairs("gate", "up"), "", graph.stacked("down")]));
}

/** The same with quantised weights. */
export function quantizedMoeOperator(file, config) {
  const graph = new LayerGraph(file, config);
  const { bits, group } = graph.quantization;
  const gateUp = [graph.pairs("gate", "up"), graph.pairs("gate.scales", "up.scales")];
  const down = [graph.stacked("down"), graph.stacked("down.scales")];
  return graph.model(moeNode(graph, "QMoE", [...gateUp, "", ...down], { expert_weight_bits: bits, block_size: group }));
}

function moeNode(graph, operator, weights, more = {}) {
  const { topK, normalize } = graph.config;
  const attributes = {
    k: topK,
    activation_type: "swiglu",
    swiglu_fusion: 1,
    activation_alpha: { float: 1 },
    activation_beta: { float: 0 },
    normalize_routing_weights: normalize ? 1 : 0,
    ...more,
  };
  return graph.node(operator, ["x", "logits", ...weights], attributes, "com.microsoft");
}

/** The layer in standard operators, with matrix products in float32. */
export function plainOperators(file, config) {
  const linear = (graph, input, name, rows, columns, expert) => {
    // Transposed once, when the session is created; for few rows this is faster than Gemm with transB.
    const transposed = graph.node("Transpose", [graph.weight(name, [rows, columns], expert)], { perm: [1, 0] });
    return graph.node("MatMul", [input, transposed]);
  };
  return expertByExpert(file, config, linear);
}

/**
 * The layer in standard operators, with onnxruntime's products by quantised matrices.
 * @param accuracyLevel 0: what the operator chooses by itself; 4: rows may be rounded to int8.
 */
export function quantizedOperators(file, config, accuracyLevel = 0) {
  const linear = (graph, input, name, rows, columns, expert) => {
    const { bits, group } = graph.quantization;
    const codes = graph.weight(name, [rows, columns / group, (group * bits) / 8], expert);
    const scales = graph.weight(`${name}.scales`, [(rows * columns) / group], expert);
    const attributes = { K: columns, N: rows, bits, block_size: group, accuracy_level: accuracyLevel };
    return graph.node("MatMulNBits", [input, codes, scales], attributes, "com.microsoft");
  };
  return expertByExpert(file, config, linear);
}

/** For each expert: gather, products by constant matrices, scatter to (token, slot) rows. */
function expertByExpert(file, config, linear) {
  const { hiddenSize, intermediateSize, numExperts, topK, normalize } = config;
  const graph = new LayerGraph(file, config);
  const scores = graph.node("Softmax", ["logits"], { axis: -1 });
  const [top, ids] = graph.nodes(2, "TopK", [scores, graph.integers([topK])], { axis: -1 });
  const last = graph.integers([-1]);
  const weights = normalize ? graph.node("Div", [top, graph.node("ReduceSum", [top, last])]) : top;
  const slots = graph.node("Reshape", [ids, last]);
  const rowShape = graph.node("Concat", [graph.node("Shape", [slots]), graph.integers([hiddenSize])], { axis: 0 });
  let rows = graph.node("ConstantOfShape", [rowShape]);
  for (let expert = 0; expert < numExperts; expert++) {
    const chosen = graph.node("NonZero", [graph.node("Equal", [slots, graph.integers([expert])])]);
    const tokens = graph.node("Div", [graph.node("Reshape", [chosen, last]), graph.integers([topK])]);
    const own = graph.node("Gather", ["x", tokens], { axis: 0 });
    const gate = linear(graph, own, "gate", intermediateSize, hiddenSize, expert);
    const up = linear(graph, own, "up", intermediateSize, hiddenSize, expert);
    const inner = graph.node("Mul", [graph.node("Mul", [gate, graph.node("Sigmoid", [gate])]), up]);
    const outer = linear(graph, inner, "down", hiddenSize, intermediateSize, expert);
    rows = graph.node("ScatterND", [rows, graph.node("Transpose", [chosen], { perm: [1, 0] }), outer]);
  }
  const perToken = graph.node("Reshape", [rows, graph.integers([-1, topK, hiddenSize])]);
  const middle = graph.integers([1]);
  const sums = graph.node("MatMul", [graph.node("Unsqueeze", [weights, middle]), perToken]);
  return graph.model(graph.node("Squeeze", [sums, middle]));
}

/** A graph with inputs x [T, H] and logits [T, E] whose weights are in a safetensors file next to the model. */
class LayerGraph extends Graph {
  #file;
  config;

  constructor(file, config) {
    super();
    this.#file = file;
    this.config = config;
  }

  /** The file's tensor `name` in this shape, or the entry at `index` of a stacked tensor. */
  weight(name, shape, index = 0) {
    const bytes = this.#file.tensors.get(name).dtype === "U8";
    const byteLength = shape.reduce((product, size) => product * size, bytes ? 1 : 4);
    return this.initializer(`${name}.${index}`, {
      dims: shape,
      dataType: bytes ? DataType.UINT8 : DataType.FLOAT,
      dataLocation: DataLocation.EXTERNAL,
      externalData: Object.entries({
        location: this.#file.name,
        offset: this.#file.tensors.get(name).byteOffset + index * byteLength,
        length: byteLength,
      }).map(([key, value]) => ({ key, value: String(value) })),
    });
  }

  /** A stacked tensor of the file as it is. */
  stacked(name) {
    return this.weight(name, this.#file.tensors.get(name).shape);
  }

  /** Two stacked tensors with their rows in turn. */
  pairs(first, second) {
    const [experts, rows, width] = this.#file.tensors.get(first).shape;
    const turns = [first, second].map((name) => this.weight(name, [experts, rows, 1, width]));
    const both = this.node("Concat", turns, { axis: 2 });
    return this.node("Reshape", [both, this.integers([experts, 2 * rows, width])]);
  }

  /** Bits of a code, and columns that share a scale, of the file's quantised matrices. */
  get quantization() {
    const { hiddenSize } = this.config;
    const columns = (name) => this.#file.tensors.get(name).shape[2];
    return { bits: (columns("gate") * 8) / hiddenSize, group: hiddenSize / columns("gate.scales") };
  }

  /** The serialised model, whose one output [T, H] is `output`. */
  model(output) {
    const { hiddenSize, numExperts } = this.config;
    const floats = (name, size) => ({ name, type: DataType.FLOAT, shape: ["T", size] });
    return super.model([floats("x", hiddenSize), floats("logits", numExperts)], [floats(output, hiddenSize)]);
  }
}
