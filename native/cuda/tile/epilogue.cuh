// From the accumulators of a grouped GEMM's tile to its result: bias, activation, conversion, store. The accumulators
// come through shared memory, where a thread finds neighbouring columns, and a gate beside its up, whatever the
// kernel's own layout.
#pragma once

#include "core/problem.h"
#include "cuda/plan.h"
#include "cuda/tile/activation.cuh"
#include "cuda/tile/element.cuh"
#include "cuda/tile/interleave.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct Epilogue {
  const void* bias;  // [experts, gate rows before up rows], or null
  DType bias_dtype;
  DType y_dtype;
  Activation activation;
  Clamp clamp;
  bool gated;
  // Whether runs of kInterleave elements of y are aligned for vector stores.
  bool aligned_y;
  void* y;
  int64_t y_pitch;
  int64_t outputs;
};

__device__ __forceinline__ void load_staged(const float* staged, float (&values)[gpu::kInterleave]) {
#pragma unroll
  for (int i = 0; i < gpu::kInterleave; i += 4) {
    const uint4 words = ptx::ld_shared_128(staged + i);
    values[i] = float_from_bits(words.x);
    values[i + 1] = float_from_bits(words.y);
    values[i + 2] = float_from_bits(words.z);
    values[i + 3] = float_from_bits(words.w);
  }
}

__device__ __forceinline__ void add_bias(const Epilogue& e, int64_t first, int64_t count,
                                         float (&values)[gpu::kInterleave]) {
#pragma unroll
  for (int i = 0; i < gpu::kInterleave; ++i) {
    if (i < count) values[i] += load_as_float(e.bias, e.bias_dtype, first + i);
  }
}

// Stores rows first_row .. first_row + rows of y for one column tile of `kColumns` packed rows. `staged` are the
// accumulators in shared memory, rows of gpu::staged_pitch. exists(row) says whether a row has an expert and a token;
// the others become zeros. The whole block takes part, after a barrier.
template <int kColumns, class Exists>
__device__ __forceinline__ void finish_tile(const Epilogue& e, int expert, int64_t first_row, int rows, int column_tile,
                                            const float* staged, Exists&& exists) {
  constexpr int kRun = gpu::kInterleave;
  const int runs = kColumns / kRun / (e.gated ? 2 : 1);
  for (int item = static_cast<int>(threadIdx.x); item < rows * runs; item += static_cast<int>(blockDim.x)) {
    const int row = item / runs;
    const int run = item % runs;
    const int64_t column = (static_cast<int64_t>(column_tile) * runs + run) * kRun;
    const int64_t count = e.outputs - column;
    if (count <= 0) continue;
    float values[kRun] = {};
    if (exists(first_row + row)) {
      const float* from = staged + row * gpu::staged_pitch(kColumns) + run * kRun * (e.gated ? 2 : 1);
      const int64_t bias = expert * e.outputs * (e.gated ? 2 : 1) + column;
      load_staged(from, values);
      if (e.bias != nullptr) add_bias(e, bias, count, values);
#pragma unroll
      for (int i = 0; i < kRun; ++i) values[i] = activate(e.activation, e.clamp, values[i]);
      if (e.gated) {
        float ups[kRun];
        load_staged(from + kRun, ups);
        if (e.bias != nullptr) add_bias(e, bias + e.outputs, count, ups);
#pragma unroll
        for (int i = 0; i < kRun; ++i) values[i] *= up_factor(e.activation, e.clamp, ups[i]);
      }
    }
    store_up_to(e.y, e.y_dtype, (first_row + row) * e.y_pitch + column, count, e.aligned_y, values);
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
