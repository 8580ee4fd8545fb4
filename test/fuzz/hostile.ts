import * as api from "../../lib/index.js";

/** What a hostile object throws of its own when it is looked at. The package makes an error about the parameter of it. */
export class OwnError extends Error {}

/** Numbers at and beyond the ends of ranges. Those between make tensors that fit into memory and take seconds to fill. */
const numbers = [
  "-1",
  "-0",
  "0",
  "1",
  "2",
  "3",
  "0.5",
  "1e-300",
  "1e300",
  "NaN",
  "Infinity",
  "-Infinity",
  "2 ** 40",
  "2 ** 52",
  "2 ** 53",
  "-(2 ** 53)",
];

/** Values that are not what they seem, as JavaScript over `api`, `device`, `other` (another device) and `own` (an error). */
const sources = [
  ...numbers,
  "undefined",
  "null",
  "true",
  '""',
  '"f32"',
  '"__proto__"',
  '"x".repeat(1e6)',
  'Symbol("s")',
  "1n",
  "2n ** 4096n",
  "() => {}",
  "[]",
  "{}",
  "[1, 2]",
  "new Array(2 ** 32 - 1)",
  "[[[[[[1]]]]]]",
  "[[1, 2], [3]]",
  "(() => { const list = []; list.push(list); return list; })()",
  "Object.create(null)",
  "Object.freeze({ topK: 1 })",
  "new Map([[1, 2]])",
  "new Date(NaN)",
  "Promise.resolve(1)",
  "{ then() { throw own(); } }",
  "{ valueOf() { throw own(); } }",
  "{ get constructor() { throw own(); } }",
  "{ constructor: { name: Symbol() } }",
  "{ get topK() { throw own(); }, get shape() { throw own(); }, get ids() { throw own(); } }",
  "{ length: 2 ** 53 - 1 }",
  "new Proxy({}, {})",
  "new Proxy({}, { has() { throw own(); } })",
  "new Proxy({}, { ownKeys() { throw own(); } })",
  "new Proxy({}, { get() { throw own(); } })",
  '(() => { let reads = 0; return new Proxy([2, 2], { get: (list, name) => name === "length" ? ++reads : list[name] }); })()',
  '(() => { let reads = 0; return new Proxy([2, 2], { get: (list, name) => name === "0" ? ++reads * 1e6 : list[name] }); })()',
  "(() => { const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return proxy; })()",
  "(() => { const { proxy, revoke } = Proxy.revocable([], {}); revoke(); return proxy; })()",
  "new Float32Array(3)",
  "new Uint8Array(new SharedArrayBuffer(8))",
  "new DataView(new ArrayBuffer(8))",
  "new BigInt64Array(2)",
  "new Float32Array(new ArrayBuffer(8, { maxByteLength: 16 }))",
  "Object.setPrototypeOf(new Uint8Array(4), Float32Array.prototype)",
  'Object.defineProperty(new Float32Array(2), "length", { value: 2 ** 40 })',
  "(() => { const array = new Float32Array(2); structuredClone(array.buffer, { transfer: [array.buffer] }); return array; })()",
  'device.zeros([2, 2], "f32")',
  'device.zeros([4, 3], "bf16")',
  'device.zeros([4, 2], "i32")',
  'device.zeros([4], "u8")',
  'device.zeros([0, 2 ** 40], "f32")',
  'device.zeros([2 ** 40, 0], "i32")',
  "device.tensor(Int32Array.of(7, -9, 2 ** 31 - 1, 0, 0, 0, 0, 1), [4, 2])",
  "device.tensor([NaN, Infinity, -Infinity, 1e38, -0, 1e-45])",
  'other.zeros([4, 6], "f32")',
  '(() => { const tensor = device.zeros([4, 6], "f32"); tensor.dispose(); return tensor; })()',
  'Object.create(device.zeros([4, 6], "f32"))',
  'new Proxy(device.zeros([4, 6], "f32"), {})',
  'api.packExperts(device.zeros([6, 4, 3], "f32"))',
  "AbortSignal.abort()",
];

/** A hostile value, and what it was made by. */
export interface Hostile {
  readonly source: string;
  readonly value: unknown;
}

type Make = (scope: typeof api, device: api.Device, other: api.Device, own: () => OwnError) => unknown;

const makers = sources.map((source) => {
  const make = new Function("api", "device", "other", "own", `"use strict"; return (${source});`) as Make;
  return { source, make };
});

export const hostileCount = makers.length;

/** One of the hostile values, made anew. */
export function hostile(index: number, device: api.Device, other: api.Device): Hostile {
  const { source, make } = makers[index] as (typeof makers)[number];
  return { source, value: make(api, device, other, () => new OwnError("looked at")) };
}
