import type { Tensor } from "../core/tensors/tensor.js";

/** Copies a tensor to one of the same size, rounded to its dtype. */
export function copyAll({ device, handle, size }: Tensor, target: Tensor): void {
  if (size === 0) return;
  const source = { handle, rows: 1, columns: size, rowStride: size, columnStride: 1 };
  device.backend.copyMatrix({ source, target: target.handle });
}
