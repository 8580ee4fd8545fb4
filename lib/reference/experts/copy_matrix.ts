import type { Implementation } from "../core/implementation.js";
import { readMatrix } from "../core/tensor.js";

export const runCopyMatrix: Implementation<"copyMatrix"> = ({ source, target }) => {
  target.store(readMatrix(source, source.rows, source.columns).values);
};
