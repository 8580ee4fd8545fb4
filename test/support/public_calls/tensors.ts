import * as api from "../../../lib/index.js";
import { H, type Part, T, tensorsOf } from "./call.js";

/** Devices, tensors and their values. */
export function tensorCalls(device: api.Device): Part {
  const { floats } = tensorsOf(device);
  const x = floats(T, H);
  return {
    calls: [
      {
        name: "openDevice",
        args: ["reference"],
        call: api.openDevice,
        valid: [{ threads: 1, poison: true, tf32: true, fp8Sums: true }],
      },
      { name: "Device.tensor", args: [[[1, 2]], [2], "bf16"], call: device.tensor.bind(device) },
      // wrapPointer and fromDLPack are not here: they believe any address.
      {
        name: "Device.wrap",
        args: [new Float32Array(new SharedArrayBuffer(8)), [1, 2], "f32"],
        call: device.wrap.bind(device),
      },
      { name: "Device.empty", args: [[2, 3], "f16"], call: device.empty.bind(device) },
      { name: "Device.zeros", args: [[2, 3], "f16"], call: device.zeros.bind(device) },
      { name: "Tensor.write", args: [new Float32Array(T * H)], call: x.write.bind(x) },
      { name: "Tensor.readInto", args: [new Float32Array(T * H)], call: x.readInto.bind(x) },
      { name: "Tensor.readIntoSync", args: [new Float32Array(T * H)], call: x.readIntoSync.bind(x) },
      { name: "Tensor.reshape", args: [[H, T]], call: x.reshape.bind(x) },
      { name: "Tensor.rows", args: [1, 3], call: x.rows.bind(x) },
      { name: "encodeHalves", args: [new Float32Array(T), "bf16"], call: api.encodeHalves },
      { name: "decodeHalves", args: [new Uint16Array(T), "f16"], call: api.decodeHalves },
      { name: "isMoeError", args: [new Error("none"), "INTERNAL"], call: api.isMoeError },
    ],
  };
}
