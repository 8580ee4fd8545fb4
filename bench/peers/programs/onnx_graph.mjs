import onnxProto from "onnx-proto";

const { onnx } = onnxProto;
export const { DataType, DataLocation } = onnx.TensorProto;
const { AttributeType } = onnx.AttributeProto;

/** A graph that becomes an ONNX model. Values have names. */
export class Graph {
  #nodes = [];
  #initializers = new Map();

  integers(values) {
    return this.initializer(`[${values}]`, { dims: [values.length], dataType: DataType.INT64, int64Data: values });
  }

  /** Adds a constant, once for each name; returns its name. */
  initializer(name, tensor) {
    this.#initializers.set(name, { name, ...tensor });
    return name;
  }

  /** Adds a node with one output; returns the output's name. */
  node(operator, inputs, attributes = {}, domain = "") {
    return this.nodes(1, operator, inputs, attributes, domain)[0];
  }

  nodes(outputs, operator, inputs, attributes = {}, domain = "") {
    const name = `${operator} ${this.#nodes.length}`;
    const output = Array.from({ length: outputs }, (_, index) => `${name}:${index}`);
    const attribute = Object.entries(attributes).map(([key, value]) => ({ name: key, ...attributeValue(value) }));
    this.#nodes.push({ name, opType: operator, domain, input: inputs, output, attribute });
    return output;
  }

  /** The serialised model. Inputs and outputs have a name, a type and, if it is known, a shape of numbers and letters. */
  model(inputs, outputs) {
    const message = {
      irVersion: 8,
      opsetImport: [
        { domain: "", version: 17 },
        { domain: "com.microsoft", version: 1 },
      ],
      graph: {
        name: "graph",
        node: this.#nodes,
        initializer: [...this.#initializers.values()],
        input: inputs.map(valueInfo),
        output: outputs.map(valueInfo),
      },
    };
    return onnx.ModelProto.encode(message).finish();
  }
}

function valueInfo({ name, type: elemType, shape }) {
  if (elemType === undefined) return { name };
  const dim = shape?.map((size) => (typeof size === "string" ? { dimParam: size } : { dimValue: size }));
  return { name, type: { tensorType: { elemType, ...(dim && { shape: { dim } }) } } };
}

function attributeValue(value) {
  if (typeof value === "number") return { type: AttributeType.INT, i: value };
  if (typeof value === "string") return { type: AttributeType.STRING, s: Buffer.from(value) };
  if (Array.isArray(value)) return { type: AttributeType.INTS, ints: value };
  return { type: AttributeType.FLOAT, f: value.float };
}
