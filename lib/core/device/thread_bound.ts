const uncloneable = Symbol(
  "moe-kernels: tensors, layers, devices, open files and the like stay on their thread; send arrays or paths instead",
);

/**
 * The base of all classes whose objects belong to the thread that made them. Structured clones of them would be `{}`. A
 * symbol cannot be cloned, so that `postMessage` and `structuredClone` throw a DataCloneError instead, which quotes the
 * symbol. From Node 22 on, it leaves out the middle of a symbol of more than 136 characters.
 * (`worker_threads.markAsUncloneable` does the same from Node 22.10 on, by a call for each object.)
 */
export class ThreadBound {
  /** @internal Only a property of the object's own keeps it from being cloned. */
  readonly uncloneable: symbol = uncloneable;
}
