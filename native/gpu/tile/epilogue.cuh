// Turns the accumulators of a grouped GEMM's tile into its result: weight, bias, activation, conversion, store. The
// accumulators come through shared memory. There a thread finds neighbouring columns, and each gate beside its up,
// whatever the kernel's own layout.
#pragma once

#include "core/operators/experts.h"
#include "gpu/plan/gemm_plan.h"
#include "gpu/tile/activation.cuh"
#include "gpu/tile/element.cuh"
#include "gpu/tile/interleave.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// Neighbouring outputs that a thread finishes at once. More would take more registers than the products leave.
constexpr int kEpilogueRun = 4;
static_assert(gpu::kInterleave % kEpilogueRun == 0, "a run lies within one group of gate or up columns");

// Where a product's rows go before the activation, too: those of the gate, or the only ones, from column `first` on,
// those of the up from `second` on.
struct RowsBefore {
  void* rows = nullptr;  // [R, pitch]; null: nowhere
  DType dtype = DType::f32;
  int64_t pitch = 0;
  int64_t first = 0;
  int64_t second = 0;
  bool aligned = false;  // as Epilogue::aligned_y
};

// Where a product's rows go.
struct GemmResult {
  void* y;  // [R, pitch]
  DType dtype;
  int64_t pitch;
  // [R], or null. Multiplies a row's sums before the bias is added, which has the effect of multiplying the row's
  // input.
  const float* weight_of_row = nullptr;
  // Whether the results multiply y's elements instead of replacing them.
  bool multiplies_y = false;
  RowsBefore before = {};
};

struct Epilogue {
  GemmResult result;
  const void* bias;  // [experts, gate rows before up rows], or null
  DType bias_dtype;
  Activation activation;
  ActivationPart part;
  Clamp clamps[2];  // of the routed experts, and of the shared ones, from first_shared on
  int32_t first_shared;
  bool gated;
  // Whether runs of kEpilogueRun elements of y are aligned for vector stores.
  bool aligned_y;
  int64_t outputs;
};

__device__ __forceinline__ void load_staged(const float* staged, float (&values)[kEpilogueRun]) {
  const uint4 words = ptx::ld_shared_128(staged);
  values[0] = float_from_bits(words.x);
  values[1] = float_from_bits(words.y);
  values[2] = float_from_bits(words.z);
  values[3] = float_from_bits(words.w);
}

// Elements of the bias from `first` on; zeros if there is no bias, and after the first `count`.
__device__ __forceinline__ void load_bias(const Epilogue& e, int64_t first, int64_t count,
                                          float (&values)[kEpilogueRun]) {
  if (e.bias != nullptr) load_up_to(e.bias, e.bias_dtype, first, count, false, values);
}

// values = weight * values + bias.
__device__ __forceinline__ void scale_and_add(float weight, const float (&bias)[kEpilogueRun],
                                              float (&values)[kEpilogueRun]) {
#pragma unroll
  for (int i = 0; i < kEpilogueRun; ++i) values[i] = fmaf(weight, values[i], bias[i]);
}

// What the epilogue reads of a row before it finishes it.
struct EpilogueRow {
  bool exists = false;
  float weight = 1.0f;
};

// Stores rows first_row .. first_row + rows - 1 of y for one column tile of `kColumns` packed rows. `staged` holds the
// accumulators in shared memory, in rows of gpu::staged_pitch. exists(row) tells whether a row has an expert and a
// token; other rows become zeros. Must be called by the whole block, after a barrier. Each thread stays in its columns.
template <int kColumns, class Exists>
__device__ __forceinline__ void finish_tile(const Epilogue& e, int expert, int64_t first_row, int rows, int column_tile,
                                            const float* staged, Exists&& exists) {
  constexpr int kRun = kEpilogueRun;
  const int halves = e.gated ? 2 : 1;
  const int runs = kColumns / kRun / halves;
  const int run = static_cast<int>(threadIdx.x) % runs;
  const int64_t column = (static_cast<int64_t>(column_tile) * runs + run) * kRun;
  const int64_t count = e.outputs - column;
  if (count <= 0) return;
  float bias[kRun] = {}, up_bias[kRun] = {};
  if (expert >= 0) {
    const int64_t first = expert * e.outputs * halves + column;
    load_bias(e, first, count, bias);
    if (e.gated) load_bias(e, first + e.outputs, count, up_bias);
  }
  const int group = run * kRun / gpu::kInterleave * gpu::kInterleave;
  const float* from = staged + group * halves + run * kRun % gpu::kInterleave;
  const int step = static_cast<int>(blockDim.x) / runs;
  const GemmResult& result = e.result;
  // Read from the arguments where it is needed: kept for a whole tile, it spills in the largest kernels.
  const auto clamp = [&]() -> const Clamp& {
    int which = expert >= e.first_shared;
    asm volatile("" : "+r"(which));
    return e.clamps[which];
  };
  const auto row_at = [&](int row) {
    EpilogueRow found;
    if (row >= rows) return found;
    found.exists = exists(first_row + row);
    if (result.weight_of_row != nullptr) found.weight = result.weight_of_row[first_row + row];
    return found;
  };
  const auto keep_before = [&](int row, int64_t from_column, const float(&values)[kRun]) {
    const RowsBefore& before = result.before;
    if (before.rows == nullptr) return;
    const int64_t place = (first_row + row) * before.pitch + from_column + column;
    store_up_to(before.rows, before.dtype, place, count, before.aligned, values);
  };
  const auto finish_rows = [&](auto* y) {
    EpilogueRow next = row_at(static_cast<int>(threadIdx.x) / runs);
    for (int row = static_cast<int>(threadIdx.x) / runs; row < rows; row += step) {
      const EpilogueRow found = next;
      // On its way while this row is finished.
      next = row_at(row + step);
      const int64_t place = (first_row + row) * result.pitch + column;
      float values[kRun] = {};
      if (found.exists) {
        const float* sums = from + row * gpu::staged_pitch(kColumns);
        load_staged(sums, values);
        scale_and_add(found.weight, bias, values);
        keep_before(row, result.before.first, values);
        if (e.part == ActivationPart::up) {
          to_factors(e.activation, clamp(), values);
        } else {
          activate(e.activation, clamp(), values);
        }
        if (e.gated) {
          float ups[kRun];
          load_staged(sums + gpu::kInterleave, ups);
          scale_and_add(found.weight, up_bias, ups);
          keep_before(row, result.before.second, ups);
          to_factors(e.activation, clamp(), ups);
#pragma unroll
          for (int i = 0; i < kRun; ++i) values[i] *= ups[i];
        }
        if (result.multiplies_y) {
          float factors[kRun];
          load_up_to(y + place, count, e.aligned_y, factors);
#pragma unroll
          for (int i = 0; i < kRun; ++i) values[i] *= factors[i];
        }
      } else {
        keep_before(row, result.before.first, values);
        if (e.gated) keep_before(row, result.before.second, values);
      }
      store_up_to(y + place, count, e.aligned_y, values);
    }
  };
  switch (result.dtype) {
    case DType::f16: return finish_rows(static_cast<f16*>(result.y));
    case DType::bf16: return finish_rows(static_cast<bf16*>(result.y));
    default: return finish_rows(static_cast<float*>(result.y));
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
