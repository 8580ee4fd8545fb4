// The grouped GEMM in float32: x in float32, weights of any format, converted on their way to shared memory. There are
// two stages: while one is multiplied, the next is on its way in registers.
//
// A format provides a class Weights:
//   Row                           a row of an expert's packed matrix
//   Run                           kFmaRun of its codes and their scales, as they are in memory
//   row(arguments, place, row)    returns a Row
//   load(row, k, run)             loads a Run from element k of the row on, a multiple of kFmaRun
//   convert(row, run, values)     converts a Run of that row to float32
//   prepare(arguments)            optional: called once by all threads of a block, ends with a barrier
#pragma once

#include <iterator>

#include "gpu/gemm/fma.h"
#include "gpu/gemm/functions.cuh"
#include "gpu/tile/element.cuh"

namespace moe::MOE_GPU_NAMESPACE {

// Elements of K that a thread loads from one weight row.
constexpr int kFmaRun = 8;

namespace fma {

using gpu::GemmTile;
using gpu::kFmaDepth;

constexpr int kThreads = 128;
// A thread's share of a tile: this many columns, with eight threads side by side, and rows / 16 rows.
constexpr int kThreadColumns = 8;
constexpr int kThreadsAcross = 8;
constexpr int kThreadsDown = kThreads / kThreadsAcross;
constexpr int kXRun = 4;

// Loads N floats; N is a multiple of four or less than four.
template <int N>
__device__ __forceinline__ void load_floats(const float* shared, float* values) {
  if constexpr (N % 4 != 0) {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = shared[i];
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const uint4 words = ptx::ld_shared_128(shared + i);
      values[i] = float_from_bits(words.x);
      values[i + 1] = float_from_bits(words.y);
      values[i + 2] = float_from_bits(words.z);
      values[i + 3] = float_from_bits(words.w);
    }
  }
}

template <class Weights, int kTileIndex>
class FmaTile {
 public:
  static constexpr GemmTile kTile = gpu::kFmaTiles[kTileIndex];
  static_assert(kTile.threads() == kThreads && kTile.columns == kThreadsAcross * kThreadColumns);

  __device__ explicit FmaTile(const GemmArguments& a) : a_(a), shared_(ptx::dynamic_shared<float>()) {}

  // Computes one tile and stores it.
  __device__ void compute(const RowTile& rows, int column_tile) {
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
      for (int j = 0; j < kThreadColumns; ++j) sums_[i][j] = 0.0f;
    }
    if (rows.expert >= 0) {
      find_sources(rows, column_tile);
      multiply_all();
    }
    stage_sums();
    finish_staged<kTile.columns>(a_, rows, column_tile, shared_);
  }

 private:
  static constexpr int kThreadRows = kTile.rows / kThreadsDown;
  // In shared memory, a row holds one k. The four extra floats put a thread's stores to different rows in different
  // banks.
  static constexpr int kXPitch = kTile.rows + 4;
  static constexpr int kStageFloats = kFmaDepth * (kXPitch + kTile.columns);
  static constexpr int kThreadsPerDepth =
      kThreads / kTile.rows < kFmaDepth / kXRun ? kThreads / kTile.rows : kFmaDepth / kXRun;
  // Runs of x that a thread loads, all from one row. In the lowest tile some threads load none.
  static constexpr int kXRuns = kFmaDepth / kXRun / kThreadsPerDepth;

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int x_row() { return thread() % kTile.rows; }
  __device__ static int x_depth(int i) { return (thread() / kTile.rows + i * kThreadsPerDepth) * kXRun; }
  __device__ static int weight_row() { return thread() % kTile.columns; }
  __device__ static int weight_depth() { return thread() / kTile.columns * kFmaRun; }
  __device__ static int first_row() { return thread() / kThreadsAcross * kThreadRows; }

  // The position of the tile's packed row n in a stage. Even groups of eight are in the first half, odd ones in the
  // second, so that the eight threads across read four columns of each half without bank conflicts.
  __device__ static int weight_place(int n) { return n / 8 % 2 * (kTile.columns / 2) + n / 16 * 8 + n % 8; }
  __device__ static int first_place() { return thread() % kThreadsAcross * 4; }

  __device__ void find_sources(const RowTile& rows, int column_tile) {
    const int64_t x_place = rows.first_row + x_row();
    const bool loads = x_row() < rows.rows && x_depth(0) < kFmaDepth;
    x_ = loads ? source_row<float>(a_, x_place, source_index(a_.input, x_place)) : nullptr;
    const int64_t row = static_cast<int64_t>(column_tile) * kTile.columns + weight_row();
    has_weight_ = row < a_.packed.rows;
    if (has_weight_) weight_ = Weights::row(a_, rows.place, row);
  }

  // Rows of x are padded to whole vectors, but only the first `columns` elements count. Packed rows end in zeros.
  __device__ void load_stage(int k) {
#pragma unroll
    for (int i = 0; i < kXRuns; ++i) {
      const int column = k * kFmaDepth + x_depth(i);
      const bool exists = x_ != nullptr && column < a_.columns;
      float values[kXRun] = {};
      if (exists) load_vector(x_ + column, values);
#pragma unroll
      for (int j = 0; j < kXRun; ++j) next_x_[i][j] = column + j < a_.columns ? values[j] : 0.0f;
    }
    if (has_weight_) Weights::load(weight_, k * kFmaDepth + weight_depth(), next_weight_);
  }

  __device__ void store_stage(int k) {
    float* x = shared_ + k % 2 * kStageFloats;
    float* weight = x + kFmaDepth * kXPitch;
#pragma unroll
    for (int i = 0; i < kXRuns; ++i) {
#pragma unroll
      for (int j = 0; j < kXRun; ++j) {
        if (x_depth(i) < kFmaDepth) x[(x_depth(i) + j) * kXPitch + x_row()] = next_x_[i][j];
      }
    }
    float values[kFmaRun] = {};
    if (has_weight_) Weights::convert(weight_, next_weight_, values);
#pragma unroll
    for (int j = 0; j < kFmaRun; ++j) {
      weight[(weight_depth() + j) * kTile.columns + weight_place(weight_row())] = values[j];
    }
  }

  __device__ void multiply_all() {
    const int stages = (a_.columns + kFmaDepth - 1) / kFmaDepth;
    if (stages == 0) return;
    load_stage(0);
    store_stage(0);
    __syncthreads();
    for (int k = 0; k < stages; ++k) {
      const bool more = k + 1 < stages;
      if (more) load_stage(k + 1);
      multiply_stage(shared_ + k % 2 * kStageFloats);
      if (more) store_stage(k + 1);
      __syncthreads();
    }
  }

  __device__ void multiply_stage(const float* x) {
    const float* weight = x + kFmaDepth * kXPitch;
#pragma unroll
    for (int k = 0; k < kFmaDepth; ++k) {
      float a[kThreadRows];
      float b[kThreadColumns];
      load_floats<kThreadRows>(x + k * kXPitch + first_row(), a);
      load_floats<4>(weight + k * kTile.columns + first_place(), b);
      load_floats<4>(weight + k * kTile.columns + kTile.columns / 2 + first_place(), b + 4);
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
        for (int j = 0; j < kThreadColumns; ++j) sums_[i][j] = fmaf(a[i], b[j], sums_[i][j]);
      }
    }
  }

  // Writes the sums to shared memory for finish_staged, with the columns back in packed order.
  __device__ void stage_sums() {
    const int column = first_place() / 8 * 16 + first_place() % 8;
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      float* row = shared_ + (first_row() + i) * gpu::staged_pitch(kTile.columns) + column;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float* sums = sums_[i] + half * 4;
        ptx::st_shared_128(row + half * 8,
                           uint4{float_bits(sums[0]), float_bits(sums[1]), float_bits(sums[2]), float_bits(sums[3])});
      }
    }
  }

  const GemmArguments& a_;
  float* shared_;
  const float* x_;
  typename Weights::Row weight_;
  bool has_weight_;
  float next_x_[kXRuns][kXRun];
  typename Weights::Run next_weight_;
  float sums_[kThreadRows][kThreadColumns];
};

// The tile is passed by index: nvcc's host code cannot name a kernel with a template argument of class type.
template <class Weights, int kTileIndex>
MOE_KERNEL(gemm_fma_kernel, (kThreads, gpu::kFmaTiles[kTileIndex].blocks), const GemmArguments a) {
  if constexpr (requires { Weights::prepare(a); }) Weights::prepare(a);
  FmaTile<Weights, kTileIndex> tile(a);
  for_each_tile(a, [&](const RowTile& rows, int column_tile) { tile.compute(rows, column_tile); });
}

}  // namespace fma

// The launch function for a row made by fma_row().
template <class Weights>
Status launch_fma(const GemmArguments& arguments, const gpu::GemmPlan& plan, Stream stream) {
  return gpu::dispatch_index<std::size(gpu::kFmaTiles)>(plan.tile_index, [&](auto index) {
    return launch_gemm(fma::gemm_fma_kernel<Weights, decltype(index)::value>, arguments, plan, stream);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
