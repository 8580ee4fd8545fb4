// Operators of onnxruntime: MatMul as the router's projection; Softmax and TopK as gating. Needs two packages:
//   npm install onnxruntime-node onnx-proto
//   npx moe-kernels verify --subject examples/verify_your_kernel/onnxruntime_subject.mjs
import { toFloat32 } from "moe-kernels/testing";
import onnxProto from "onnx-proto";
import { InferenceSession, Tensor } from "onnxruntime-node";

const { onnx } = onnxProto;
const FLOAT = onnx.TensorProto.DataType.FLOAT;
const INT64 = onnx.TensorProto.DataType.INT64;

/** A session for a graph of nodes with these inputs and outputs, by name and type. */
function session(nodes, inputs, outputs) {
  const value = ([name, elemType]) => ({ name, type: { tensorType: { elemType } } });
  const model = {
    irVersion: 8,
    opsetImport: [{ domain: "", version: 17 }],
    graph: { name: "subject", node: nodes, input: inputs.map(value), output: outputs.map(value) },
  };
  return InferenceSession.create(onnx.ModelProto.encode(onnx.ModelProto.create(model)).finish(), {
    logSeverityLevel: 3,
  });
}

const node = (opType, input, output, attribute = []) => ({ opType, input, output, attribute });
const integers = (name, ints) => ({ name, ints, type: onnx.AttributeProto.AttributeType.INTS });

const projection = await session(
  [
    node("Transpose", ["weight"], ["transposed"], [integers("perm", [1, 0])]),
    node("MatMul", ["x", "transposed"], ["product"]),
    node("Add", ["product", "bias"], ["logits"]),
  ],
  [
    ["x", FLOAT],
    ["weight", FLOAT],
    ["bias", FLOAT],
  ],
  [["logits", FLOAT]],
);
const softmaxTop = await session(
  [node("Softmax", ["logits"], ["scores"]), node("TopK", ["scores", "k"], ["weights", "ids"])],
  [
    ["logits", FLOAT],
    ["k", INT64],
  ],
  [
    ["weights", FLOAT],
    ["ids", INT64],
  ],
);

const floats = (array) => new Tensor("float32", toFloat32(array), array.shape);

export default {
  name: "onnxruntime",
  operators: {
    async routerProjection({ x, weight, bias }) {
      const zeros = { data: new Float32Array(weight.shape[0]), shape: [weight.shape[0]], dtype: "f32" };
      const results = await projection.run({ x: floats(x), weight: floats(weight), bias: floats(bias ?? zeros) });
      return { logits: results.logits.data };
    },
    async gating({ logits, rule }) {
      const k = new Tensor("int64", BigInt64Array.of(BigInt(rule.topK)), [1]);
      const { ids, weights } = await softmaxTop.run({ logits: floats(logits), k });
      return { ids: Array.from(ids.data, Number), weights: weights.data.map((weight) => weight * rule.scale) };
    },
  },

  /** What these graphs compute: softmax and the k largest, of finite logits. TopK of no tokens ends the process (onnxruntime 1.30.0). */
  supports(operator, { rule, logits, selectionBias }) {
    if (operator !== "gating") return true;
    const plain = rule.scoring === "softmax" && rule.numGroups === 1 && rule.normalization === "none";
    return plain && selectionBias === undefined && logits.shape[0] > 0 && toFloat32(logits).every(Number.isFinite);
  },
};
