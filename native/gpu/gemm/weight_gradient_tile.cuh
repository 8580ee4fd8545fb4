// A tile of the gradient of weights on tensor cores, of x and dy of one 16-bit type. Both stand in shared memory as
// they do in memory, row by row of the product, which is the depth here: products take both transposed.
#pragma once

#include "gpu/gemm/mma_tile.cuh"
#include "gpu/gemm/weight_gradient.cuh"
#include "gpu/plan/weight_gradient_plan.h"
#include "gpu/tile/element.cuh"

namespace moe::MOE_GPU_NAMESPACE {

// The rows of one operand in a stage, kColumns columns each, in panels of 64 columns that are laid out as swizzle.cuh
// says. Every thread copies one chunk of some of them.
template <class T, int kColumns, int kThreads>
struct GradientOperand {
  static constexpr int kElements = kChunkBytes / static_cast<int>(sizeof(T));
  static constexpr int kChunks = kColumns / kElements;
  static constexpr int kRowStep = kThreads / kChunks;
  static constexpr int kCopies = gpu::kWeightGradientMmaDepth / kRowStep;
  static constexpr int kBytes = gpu::kWeightGradientMmaDepth * kColumns * static_cast<int>(sizeof(T));
  static constexpr int kPanelBytes = gpu::kWeightGradientMmaDepth * kTileRowBytes;
  static_assert(gpu::kWeightGradientMmaDepth % kRowStep == 0);

  __device__ static int row(int copy) { return static_cast<int>(threadIdx.x) / kChunks + copy * kRowStep; }
  __device__ static int chunk() { return static_cast<int>(threadIdx.x) % kChunks; }

  __device__ static int place(int row, int chunk) {
    return chunk / kChunksPerRow * kPanelBytes + swizzled_offset(row, chunk % kChunksPerRow);
  }

  // Enqueues a copy of the thread's chunk of row `row` of [rows, columns] from column `first` on. What lies outside
  // becomes zeros; a row below 0 is outside.
  __device__ static void copy(const void* matrix, int64_t row, int64_t columns, int64_t first, bool aligned, char* to) {
    const int64_t left = row < 0 ? 0 : columns - first - chunk() * kElements;
    const int count = left < 0 ? 0 : left < kElements ? static_cast<int>(left) : kElements;
    const T* from = static_cast<const T*>(matrix) + (count == 0 ? 0 : row * columns + first + chunk() * kElements);
    if (aligned) {
      ptx::cp_async_16_zfill(to, from, count * static_cast<int>(sizeof(T)));
      return;
    }
    Vector<T, kElements> elements;
#pragma unroll
    for (int i = 0; i < kElements; ++i) elements.elements[i] = i < count ? from[i] : T{};
    ptx::st_shared_128(to, elements.quads[0]);
  }
};

// A class derived from this one adds the products of all stages to the sums between start() and store_sums().
template <class T, gpu::GemmTile kTileOfTable>
class WeightGradientTile {
 public:
  static constexpr gpu::GemmTile kTile = kTileOfTable;

 protected:
  __device__ explicit WeightGradientTile(const WeightGradientArguments& a)
      : a_(a), ring_(ptx::dynamic_shared<char>()) {}

  __device__ void start(const WeightGradientRectangle& rectangle) {
    rectangle_ = rectangle;
    clear(sums_);
    find_tokens(0);
  }

  static constexpr int kThreads = kTile.threads();
  static constexpr int kDepth = gpu::kWeightGradientMmaDepth;
  static constexpr int kWarpOutputs = kTile.rows / kTile.warps_rows;
  static constexpr int kWarpColumns = kTile.columns / kTile.warps_columns;
  static constexpr int kMmaRows = kWarpOutputs / 16;
  static constexpr int kMmaColumns = kWarpColumns / 8;
  using Outputs = GradientOperand<T, kTile.rows, kThreads>;
  using Columns = GradientOperand<T, kTile.columns, kThreads>;
  static constexpr int kStageBytes = Outputs::kBytes + Columns::kBytes;
  static_assert(kTile.rows == kTile.columns, "a thread copies the same rows of both operands");
  static constexpr int kCopies = Outputs::kCopies;

  __device__ char* at(int stage) const { return ring_ + stage % kTile.stages * kStageBytes; }

  __device__ int stages() const {
    const int rows = rectangle_.end - rectangle_.begin;
    return rows / kDepth + (rows % kDepth != 0);
  }

  // Reads the rows of x for the copies of this stage, one stage early: the copies would wait for them.
  __device__ void find_tokens(int stage) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int64_t row = row_of(stage, i);
      tokens_[i] = row < rectangle_.end ? token_of(a_, row) : -1;
    }
  }

  __device__ int64_t row_of(int stage, int copy) const {
    return rectangle_.begin + static_cast<int64_t>(stage) * kDepth + Outputs::row(copy);
  }

  // Enqueues the copies of a stage. A row without a token has no gradient: both operands are zeros, whatever dy holds.
  __device__ void load(int stage) {
    char* outputs = at(stage);
    char* columns = outputs + Outputs::kBytes;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int64_t token = tokens_[i], row = token < 0 ? -1 : row_of(stage, i);
      const int place = Outputs::place(Outputs::row(i), Outputs::chunk());
      Outputs::copy(a_.output_gradient, row, a_.outputs, rectangle_.first_output, a_.aligned_output_gradient,
                    outputs + place);
      Columns::copy(a_.x, token, a_.columns, rectangle_.first_column, a_.aligned_x, columns + place);
    }
    find_tokens(stage + 1);
  }

  // Calls use(address, columns that exist, sums) for the thread's pairs of sums that exist.
  template <class Use>
  __device__ void for_each_pair(Use&& use) {
    const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
    for (int m = 0; m < kMmaRows; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int output = warp_row() * kWarpOutputs + m * 16 + half * 8 + lane / 4;
        if (rectangle_.first_output + output >= a_.outputs) continue;
#pragma unroll
        for (int n = 0; n < kMmaColumns; ++n) {
          const int column = warp_column() * kWarpColumns + n * 8 + lane % 4 * 2;
          const int64_t count = a_.columns - rectangle_.first_column - column;
          if (count <= 0) continue;
          use(a_.weight_gradient + rectangle_.place(a_, output, column), count, sums_[m][n][half * 2],
              sums_[m][n][half * 2 + 1]);
        }
      }
    }
  }

  // Adds to the gradient only here: sums that begin with values from memory keep wgmma from running in the background.
  __device__ void store_sums() {
    for_each_pair([&](float* address, int64_t count, float first, float second) {
      float values[2] = {};
      if (a_.accumulate) load_up_to(address, count, a_.aligned_weight_gradient, values);
      values[0] += first;
      values[1] += second;
      store_up_to(address, count, a_.aligned_weight_gradient, values);
    });
  }

  __device__ static int warp_row() { return static_cast<int>(threadIdx.x / 32) / kTile.warps_columns; }
  __device__ static int warp_column() { return static_cast<int>(threadIdx.x / 32) % kTile.warps_columns; }

  float sums_[kMmaRows][kMmaColumns][4];

 private:
  const WeightGradientArguments& a_;
  char* ring_;
  WeightGradientRectangle rectangle_;
  int64_t tokens_[kCopies];
};

}  // namespace moe::MOE_GPU_NAMESPACE
