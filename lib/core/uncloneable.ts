/**
 * What objects that belong to their thread have as a property of their own. Structured clones of them would be `{}`; as symbols
 * cannot be cloned, `postMessage` and `structuredClone` throw a DataCloneError instead, which quotes the description.
 * (`worker_threads.markAsUncloneable` does the same from Node 22.10 on, by a call for each object.)
 */
export const uncloneable = Symbol(
  "moe-kernels: tensors, layers and devices stay on their thread; send arrays instead, such as await tensor.data()",
);
