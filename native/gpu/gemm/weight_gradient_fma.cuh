// The gradient of weights on float32 units, for x and dy of any two dtypes: while the rows of one stage are multiplied,
// the next are on their way in registers.
#pragma once

#include <ptx/ld_st.cuh>

#include "gpu/gemm/weight_gradient.cuh"
#include "gpu/plan/weight_gradient_plan.h"
#include "gpu/tile/element.cuh"

namespace moe::MOE_GPU_NAMESPACE {

class WeightGradientFmaTile {
 public:
  static constexpr gpu::GemmTile kTile = gpu::kWeightGradientFmaTile;
  // Elements that a thread loads and stores at once.
  static constexpr int kRun = 4;

  __device__ explicit WeightGradientFmaTile(const WeightGradientArguments& a)
      : a_(a), shared_(ptx::dynamic_shared<float>()) {}

  __device__ void compute(const WeightGradientRectangle& rectangle) {
    rectangle_ = rectangle;
    start_sums();
    const int rows = rectangle_.end - rectangle_.begin;
    const int stages = rows / kDepth + (rows % kDepth != 0);
    if (stages > 0) {
      load_stage(0);
      store_stage(0);
      __syncthreads();
    }
    for (int stage = 0; stage < stages; ++stage) {
      const bool more = stage + 1 < stages;
      if (more) load_stage(stage + 1);
      multiply_stage(shared_ + stage % 2 * kStageFloats);
      if (more) store_stage(stage + 1);
      __syncthreads();
    }
    store_sums();
  }

 private:
  static constexpr int kTileOutputs = kTile.rows;
  static constexpr int kTileColumns = kTile.columns;
  static constexpr int kThreads = kTile.threads();
  // Each has eight outputs times eight columns.
  static constexpr int kThreadsAcross = 16;
  // Rows of dy and x per stage. Sixteen neighbouring threads load one row, in runs.
  static constexpr int kDepth = gpu::kWeightGradientFmaDepth;
  static constexpr int kThreadsPerRow = kThreads / kDepth;
  static constexpr int kRunStep = kThreadsPerRow * kRun;
  static constexpr int kOutputRuns = kTileOutputs / kRunStep;
  static constexpr int kColumnRuns = kTileColumns / kRunStep;
  static constexpr int kStageFloats = kDepth * (kTileOutputs + kTileColumns);
  static_assert(kThreadsAcross * 8 == kTileColumns && kThreads / kThreadsAcross * 8 == kTileOutputs);

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  // What this thread loads.
  __device__ static int stage_row() { return thread() / kThreadsPerRow; }
  __device__ static int run(int i) { return thread() % kThreadsPerRow * kRun + i * kRunStep; }
  // What it computes: eight outputs, and four columns in each half of the tile.
  __device__ static int first_output() { return thread() / kThreadsAcross * 8; }
  __device__ static int first_column(int half) { return half * (kTileColumns / 2) + thread() % kThreadsAcross * 4; }

  // Calls use(address, columns that exist, four sums) for the thread's sums that exist.
  template <class Use>
  __device__ void for_each_run(Use&& use) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int output = first_output() + i;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = first_column(half);
        const int64_t count = a_.columns - rectangle_.first_column - column;
        if (rectangle_.first_output + output >= a_.outputs || count <= 0) continue;
        use(a_.weight_gradient + rectangle_.place(a_, output, column), count, sums_[i][half]);
      }
    }
  }

  __device__ void start_sums() {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) sums_[i][j / 4][j % 4] = 0.0f;
    }
    if (!a_.accumulate) return;
    for_each_run([&](const float* address, int64_t count, float(&sums)[4]) {
      load_up_to(address, count, a_.aligned_weight_gradient, sums);
    });
  }

  __device__ void store_sums() {
    for_each_run([&](float* address, int64_t count, const float(&sums)[4]) {
      store_up_to(address, count, a_.aligned_weight_gradient, sums);
    });
  }

  // A row without a token has no gradient: both operands are zeros, whatever dy holds.
  __device__ void load_stage(int stage) {
    const int64_t row = rectangle_.begin + static_cast<int64_t>(stage) * kDepth + stage_row();
    const int64_t token = row < rectangle_.end ? token_of(a_, row) : -1;
    load_runs(a_.output_gradient, a_.output_gradient_dtype, token < 0 ? -1 : row, a_.outputs, rectangle_.first_output,
              a_.aligned_output_gradient, next_outputs_);
    load_runs(a_.x, a_.x_dtype, token, a_.columns, rectangle_.first_column, a_.aligned_x, next_columns_);
  }

  template <int kRuns>
  __device__ static void load_runs(const void* matrix, DType dtype, int64_t row, int64_t columns, int64_t first,
                                   bool aligned, float (&values)[kRuns][kRun]) {
    switch (dtype) {
      case DType::f16: return load_runs(static_cast<const f16*>(matrix), row, columns, first, aligned, values);
      case DType::bf16: return load_runs(static_cast<const bf16*>(matrix), row, columns, first, aligned, values);
      default: return load_runs(static_cast<const float*>(matrix), row, columns, first, aligned, values);
    }
  }
  template <class T, int kRuns>
  __device__ static void load_runs(const T* matrix, int64_t row, int64_t columns, int64_t first, bool aligned,
                                   float (&values)[kRuns][kRun]) {
    const T* begin = matrix + (row < 0 ? 0 : row * columns + first);
    const int64_t count = row < 0 ? 0 : columns - first;
#pragma unroll
    for (int i = 0; i < kRuns; ++i) load_up_to(begin + run(i), count - run(i), aligned, values[i]);
  }

  __device__ void store_stage(int stage) {
    float* outputs = shared_ + stage % 2 * kStageFloats;
    float* columns = outputs + kDepth * kTileOutputs;
#pragma unroll
    for (int i = 0; i < kOutputRuns; ++i) store_run(outputs + stage_row() * kTileOutputs + run(i), next_outputs_[i]);
#pragma unroll
    for (int i = 0; i < kColumnRuns; ++i) store_run(columns + stage_row() * kTileColumns + run(i), next_columns_[i]);
  }
  __device__ static void store_run(float* shared, const float (&values)[kRun]) {
    ptx::st_shared_128(
        shared, uint4{float_bits(values[0]), float_bits(values[1]), float_bits(values[2]), float_bits(values[3])});
  }
  __device__ static void read_run(const float* shared, float (&values)[kRun]) {
    const uint4 words = ptx::ld_shared_128(shared);
    values[0] = float_from_bits(words.x);
    values[1] = float_from_bits(words.y);
    values[2] = float_from_bits(words.z);
    values[3] = float_from_bits(words.w);
  }

  __device__ void multiply_stage(const float* outputs) {
    const float* columns = outputs + kDepth * kTileOutputs;
#pragma unroll
    for (int row = 0; row < kDepth; ++row) {
      float dy[2][4], x[2][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        read_run(outputs + row * kTileOutputs + first_output() + half * 4, dy[half]);
        read_run(columns + row * kTileColumns + first_column(half), x[half]);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          float& sum = sums_[i][j / 4][j % 4];
          sum = fmaf(dy[i / 4][i % 4], x[j / 4][j % 4], sum);
        }
      }
    }
  }

  const WeightGradientArguments& a_;
  float* shared_;
  WeightGradientRectangle rectangle_;
  float next_outputs_[kOutputRuns][kRun];
  float next_columns_[kColumnRuns][kRun];
  float sums_[8][2][4];
};

}  // namespace moe::MOE_GPU_NAMESPACE
