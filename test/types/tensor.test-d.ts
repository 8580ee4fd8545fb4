import { describe, expectTypeOf, test } from "vitest";
import type { ArrayOf, Device, DType, NestedArray, RawArrayOf, Tensor } from "../../lib/index.js";

declare const device: Device;

describe("Tensor", () => {
  test("data() returns numbers, 16-bit floats as Float32Array", () => {
    expectTypeOf<Tensor<"f32">["data"]>().returns.resolves.toEqualTypeOf<Float32Array>();
    expectTypeOf<Tensor<"f16">["data"]>().returns.resolves.toEqualTypeOf<Float32Array>();
    expectTypeOf<Tensor<"bf16">["data"]>().returns.resolves.toEqualTypeOf<Float32Array>();
    expectTypeOf<Tensor<"f64">["data"]>().returns.resolves.toEqualTypeOf<Float64Array>();
    expectTypeOf<Tensor<"i32">["data"]>().returns.resolves.toEqualTypeOf<Int32Array>();
    expectTypeOf<Tensor<"u8">["data"]>().returns.resolves.toEqualTypeOf<Uint8Array>();
    expectTypeOf<Tensor<"bf16">["dataSync"]>().returns.toEqualTypeOf<Float32Array>();
  });

  test("raw() returns the stored bits", () => {
    expectTypeOf<Tensor<"bf16">["raw"]>().returns.resolves.toEqualTypeOf<Uint16Array>();
    expectTypeOf<Tensor<"f16">["rawSync"]>().returns.toEqualTypeOf<Uint16Array>();
    expectTypeOf<RawArrayOf<"f32">>().toEqualTypeOf<Float32Array>();
    expectTypeOf<ArrayOf<"f16">>().toEqualTypeOf<Float32Array>();
  });

  test("keeps its dtype through views", () => {
    expectTypeOf<Tensor<"bf16">["reshape"]>().returns.toEqualTypeOf<Tensor<"bf16">>();
    expectTypeOf<Tensor<"i32">["rows"]>().returns.toEqualTypeOf<Tensor<"i32">>();
    expectTypeOf<Tensor<"f32">["dtype"]>().toEqualTypeOf<"f32">();
    expectTypeOf<Tensor<"f32">["toArray"]>().returns.resolves.toEqualTypeOf<NestedArray>();
  });

  test("of one dtype is not a tensor of another, but is a Tensor", () => {
    expectTypeOf<Tensor<"f32">>().not.toExtend<Tensor<"i32">>();
    expectTypeOf<Tensor<"f32">>().not.toExtend<Tensor<"f16">>();
    expectTypeOf<Tensor>().not.toExtend<Tensor<"f32">>();
    expectTypeOf<Tensor<"f32">>().toExtend<Tensor>();
  });

  test("is read-only and disposable", () => {
    expectTypeOf<Tensor>().toExtend<Disposable>();
    expectTypeOf<Tensor["shape"]>().toEqualTypeOf<readonly number[]>();
  });
});

describe("device.tensor", () => {
  test("takes the dtype from the source by default", () => {
    expectTypeOf(device.tensor([[1, 2]])).toEqualTypeOf<Tensor<"f32">>();
    expectTypeOf(device.tensor(7)).toEqualTypeOf<Tensor<"f32">>();
    expectTypeOf(device.tensor(new Float32Array(4), [2, 2])).toEqualTypeOf<Tensor<"f32">>();
    expectTypeOf(device.tensor(new Float64Array(4))).toEqualTypeOf<Tensor<"f32">>();
    expectTypeOf(device.tensor(new Int32Array(4))).toEqualTypeOf<Tensor<"i32">>();
    expectTypeOf(device.tensor(new Uint8Array(4))).toEqualTypeOf<Tensor<"u8">>();
  });

  test("takes the dtype that is given", () => {
    expectTypeOf(device.tensor(new Float32Array(4), [4], "bf16")).toEqualTypeOf<Tensor<"bf16">>();
    expectTypeOf(device.tensor([1, 2], undefined, "i32")).toEqualTypeOf<Tensor<"i32">>();
    expectTypeOf(device.tensor(new Uint16Array(4), [4], "f16")).toEqualTypeOf<Tensor<"f16">>();
    const dtype = "f32" as DType;
    expectTypeOf(device.tensor([1], [1], dtype)).toEqualTypeOf<Tensor<DType>>();
    expectTypeOf(device.zeros([2, 3], "u8")).toEqualTypeOf<Tensor<"u8">>();
    expectTypeOf(device.empty([2, 3], "f16")).toEqualTypeOf<Tensor<"f16">>();
  });

  test("refuses invalid sources, shapes and dtypes", () => {
    // @ts-expect-error a string is not a source
    device.tensor("1, 2");
    // @ts-expect-error BigInt64Array has no dtype
    device.tensor(new BigInt64Array(4));
    // @ts-expect-error i64 exists in files only
    device.tensor([1], [1], "i64");
    // @ts-expect-error a shape is an array
    device.tensor([1], 1);
    // @ts-expect-error zeros needs a dtype
    device.zeros([1]);
  });
});
