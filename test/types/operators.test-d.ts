import { describe, expectTypeOf, test } from "vitest";
import {
  cast,
  combine,
  type Device,
  type ForwardOptions,
  type ForwardResult,
  gating,
  groupedGemm,
  isMoeError,
  type LayerState,
  MoeError,
  type MoeErrorCode,
  MoeLayer,
  openDevice,
  type PackedExperts,
  packExperts,
  permute,
  type Routing,
  routerProjection,
  type SavedForward,
  type SortedRows,
  sort,
  type Tensor,
} from "../../lib/index.js";

declare const device: Device;
declare const f32: Tensor<"f32">;
declare const bf16: Tensor<"bf16">;
declare const i32: Tensor<"i32">;

describe("operators", () => {
  test("keep the dtype of the tokens", () => {
    expectTypeOf(permute(bf16, i32)).toEqualTypeOf<Tensor<"bf16">>();
    expectTypeOf(groupedGemm(bf16, bf16, i32)).toEqualTypeOf<Tensor<"bf16">>();
    expectTypeOf(groupedGemm(f32, packExperts(bf16), i32, { activation: "swiglu" })).toEqualTypeOf<Tensor<"f32">>();
    expectTypeOf(combine(bf16, i32, f32)).toEqualTypeOf<Tensor<"bf16">>();
  });

  test("take the dtype of `out` if it may differ", () => {
    expectTypeOf(cast(f32, { dtype: "bf16" })).toEqualTypeOf<Tensor<"bf16">>();
    expectTypeOf(cast(bf16, { out: f32 })).toEqualTypeOf<Tensor<"f32">>();
    expectTypeOf(groupedGemm(bf16, bf16, i32, { out: f32 })).toEqualTypeOf<Tensor<"f32">>();
    expectTypeOf(combine(bf16, i32, f32, { out: f32 })).toEqualTypeOf<Tensor<"f32">>();
    expectTypeOf(combine(f32, i32, f32, { out: bf16 }).raw).returns.resolves.toEqualTypeOf<Uint16Array>();
    const perhaps: { out?: Tensor<"f32"> } = {};
    expectTypeOf(combine(bf16, i32, f32, perhaps)).toEqualTypeOf<Tensor<"bf16" | "f32">>();
    expectTypeOf(groupedGemm(bf16, bf16, i32, { bias: f32 })).toEqualTypeOf<Tensor<"bf16">>();
    // @ts-expect-error outputs are floats
    combine(bf16, i32, f32, { out: i32 });
  });

  test("have results of fixed dtype", () => {
    expectTypeOf(routerProjection(bf16, bf16)).toEqualTypeOf<Tensor<"f32">>();
    expectTypeOf(gating(f32, { topK: 2 })).toEqualTypeOf<Routing>();
    expectTypeOf(sort(i32, { numExperts: 8 })).toEqualTypeOf<SortedRows>();
    expectTypeOf(packExperts(f32)).toEqualTypeOf<PackedExperts>();
    expectTypeOf<Routing["ids"]>().toEqualTypeOf<Tensor<"i32">>();
    expectTypeOf<SortedRows["offsets"]>().toEqualTypeOf<Tensor<"i32">>();
  });

  test("refuse tensors of a wrong dtype", () => {
    // @ts-expect-error tokens are floats
    routerProjection(i32, f32);
    // @ts-expect-error ids are i32
    sort(f32, { numExperts: 8 });
    // @ts-expect-error weights are f32
    combine(bf16, i32, bf16);
    // @ts-expect-error maps are i32
    permute(bf16, f32);
    // @ts-expect-error logits are written as f32
    routerProjection(bf16, bf16, { out: bf16 });
    // @ts-expect-error copied rows keep their dtype
    permute(bf16, i32, { out: f32 });
  });

  test("refuse unknown and missing options", () => {
    // @ts-expect-error topK is required
    gating(f32, {});
    // @ts-expect-error no such scoring
    gating(f32, { topK: 2, scoring: "sigmoid_of_softmax" });
    // @ts-expect-error no such activation
    packExperts(f32, { activation: "swish" });
  });
});

describe("MoeLayer", () => {
  const options = { device, hiddenSize: 4, intermediateSize: 8, numExperts: 2, topK: 1, router: f32 };

  test("keeps the dtype of the tokens", () => {
    const layer = MoeLayer.create({ ...options, experts: { gate: bf16, up: bf16, down: bf16 } });
    expectTypeOf(layer.forward(bf16)).toEqualTypeOf<Tensor<"bf16">>();
    expectTypeOf(layer.forward(f32, { routing: layer.route(f32) })).toEqualTypeOf<Tensor<"f32">>();
    expectTypeOf(layer).toExtend<Disposable>();
    // @ts-expect-error the output has the dtype of the tokens
    layer.forward(bf16, { out: f32 });
  });

  test("returns what is asked for, and either of it for options that are known only at run time", () => {
    const layer = MoeLayer.create({ ...options, experts: { gate: bf16, up: bf16, down: bf16 } });
    expectTypeOf(layer.forward(bf16, { save: true })).toEqualTypeOf<SavedForward<"bf16">>();
    const both = layer.forward(bf16, { save: true, want: ["routing"] });
    expectTypeOf(both.state).toEqualTypeOf<LayerState>();
    expectTypeOf(both.routing).toEqualTypeOf<Routing>();
    expectTypeOf(both.logits).toEqualTypeOf<Tensor<"f32"> | undefined>();
    expectTypeOf(layer.forward(bf16, { want: ["routing"] }).routing).toEqualTypeOf<Routing>();
    const given: ForwardOptions<"bf16"> = {};
    expectTypeOf(layer.forward(bf16, given)).toEqualTypeOf<Tensor<"bf16"> | ForwardResult<"bf16">>();
  });

  test("is loaded asynchronously", () => {
    expectTypeOf(MoeLayer.load("model", { layer: 0, device, dtype: "bf16" })).resolves.toEqualTypeOf<MoeLayer>();
    expectTypeOf(MoeLayer.load("layer.safetensors", { device, dtype: "bf16" })).resolves.toEqualTypeOf<MoeLayer>();
    const folder: string = "saved";
    expectTypeOf(MoeLayer.load(`${folder}/layer.safetensors`, { device })).resolves.toEqualTypeOf<MoeLayer>();
    // @ts-expect-error a layer file has no cache
    MoeLayer.load("layer.safetensors", { device, cache: true });
  });

  test("needs every expert's up and down projections", () => {
    // @ts-expect-error down is missing
    MoeLayer.create({ ...options, experts: { up: f32 } });
    // @ts-expect-error weights are floats
    MoeLayer.create({ ...options, experts: [{ up: i32, down: f32 }] });
  });
});

describe("devices and errors", () => {
  test("devices have names", () => {
    expectTypeOf(openDevice("cuda:1")).toEqualTypeOf<Device>();
    // @ts-expect-error no such device
    openDevice("gpu");
    // @ts-expect-error no such option
    openDevice("cpu", { cores: 2 });
  });

  test("errors carry a code", () => {
    expectTypeOf<MoeError["code"]>().toEqualTypeOf<MoeErrorCode>();
    const error: unknown = new MoeError("DISPOSED", "");
    if (isMoeError(error)) expectTypeOf(error).toEqualTypeOf<MoeError>();
    if (isMoeError(error, "DISPOSED", "ABORTED")) expectTypeOf(error.code).toEqualTypeOf<"DISPOSED" | "ABORTED">();
    // An error of another code is still one of this package.
    if (error instanceof MoeError && !isMoeError(error, "DISPOSED")) expectTypeOf(error).toEqualTypeOf<MoeError>();
    // @ts-expect-error no such code
    isMoeError(error, "EDISPOSED");
  });
});
