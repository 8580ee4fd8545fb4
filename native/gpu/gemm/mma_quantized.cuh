// The grouped GEMM on tensor cores with weights of quantised formats. While one stage is multiplied, the group values
// of the next are converted. Codes become elements of x's type, 16-bit numbers or bytes, between shared memory and
// fragments. A group's products are summed in accumulators of their own, which are scaled and added to the others at
// the group's end.
#pragma once

#include <iterator>

#include <ptx/ldmatrix.cuh>

#include "gpu/gemm/quantized_stages.cuh"

namespace moe::MOE_GPU_NAMESPACE::quantized {

__device__ __forceinline__ void load_fragment(uint32_t (&registers)[4], const char* row) {
  ptx::ldmatrix_x4(registers, row);
}
__device__ __forceinline__ void load_fragment(uint32_t (&registers)[2], const char* row) {
  ptx::ldmatrix_x2(registers, row);
}

template <class T, Codes kCodes, int kBits, bool kSumsX, int kTileIndex>
class MmaTile {
 public:
  static constexpr gpu::GemmTile kTile = gpu::kMmaQuantizedTiles[kTileIndex];
  static_assert(kTile.stages >= 3, "one stage is multiplied and one converted while others are on their way");

  __device__ explicit MmaTile(const Arguments& a) : a_(a), stages_(a) {}

  // Computes one tile and stores it.
  __device__ void compute(const RowTile& rows, int column_tile) {
    clear(sums_);
    if (rows.expert >= 0) {
      stages_.find(rows, column_tile);
      multiply_all();
    }
    float* staged = ptx::dynamic_shared<float>();
    stage_fragments<kTile.columns>(staged, warp_row() * kWarpRows, warp_first_column(), sums_);
    finish_staged<kTile.columns>(a_.gemm, rows, column_tile, staged);
  }

 private:
  using Ring = Stages<T, kCodes, kBits, kSumsX, kTile.rows, kTile.columns, kTile.threads(), kTile.stages,
                      gpu::kMmaConvertedStages>;
  using GroupSum = typename Ring::GroupSum;
  using Converter = typename Ring::Converter;
  static constexpr bool kBytes = Ring::kBytes, kIntegers = Ring::kIntegers;
  static constexpr int kWarpRows = kTile.rows / kTile.warps_rows;
  static constexpr int kWarpColumns = kTile.columns / kTile.warps_columns;
  static constexpr int kMmaRows = kWarpRows / 16;
  static constexpr int kMmaColumns = kWarpColumns / 8;

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int warp_row() { return thread() / 32 / kTile.warps_columns; }
  __device__ static int warp_first_column() { return thread() / 32 % kTile.warps_columns * kWarpColumns; }

  __device__ void multiply_all() {
    const int stages = stages_.count();
    begin_group();
    steps_left_ = a_.group_steps;
#pragma unroll
    for (int n = 0; n < kMmaColumns; ++n) offsets_[n] = stages_.fixed_offset();
#pragma unroll 1
    for (int k = 1 - kTile.stages; k < stages; ++k) {
      if (k >= -1) {
        ptx::cp_async_wait<kTile.stages - 3>();
        // Stages k and k + 1 have arrived for all threads, the groups of k are converted, and all are done with stage
        // k - 1, which the next copies and conversions overwrite.
        __syncthreads();
      }
      if (k + kTile.stages - 1 < stages) stages_.load(k + kTile.stages - 1);
      ptx::cp_async_commit();
      if (k < -1) continue;
      if (k + 1 < stages) stages_.convert_groups(k + 1);
      if (k < 0) continue;
      if constexpr (kBytes) {
        if (a_.group_steps % 2 == 0) {
          multiply_stage<2 * kGroupStep>(k, k + 1 == stages);
          continue;
        }
      }
      multiply_stage<kGroupStep>(k, k + 1 == stages);
    }
    ptx::cp_async_wait<0>();
    __syncthreads();
  }

  __device__ void begin_group() {
    clear(group_sums_, kIntegers && a_.counting ? static_cast<GroupSum>(kCountingBits) : GroupSum{});
    clear(x_sums_);
    fresh_ = true;
  }

  // Multiplies in steps of `kColumns` columns. No step crosses groups.
  template <int kColumns>
  __device__ void multiply_stage(int k, bool last) {
    constexpr int kSteps = gpu::kCodeStage / kColumns;
    constexpr int kRegisters = kColumns / (Converter::kChunks * gpu::kCodeChunk);  // of a fragment of codes
    const char *x = stages_.x_at(k), *codes = stages_.codes_at(k);
    const int lane = thread() % 32;
    // The row and chunk that this lane addresses for ldmatrix.
    const int x_row = warp_row() * kWarpRows + lane % 16;
    const int x_chunk = kRegisters == 2 ? lane / 16 : 0;
    // The column of the first fragment whose codes this lane converts, and its part of them.
    const int column = warp_first_column() + lane / 4, part = lane % 4;
    int group = 0;
    CodeWord<kCodes, kBits> words[kMmaColumns];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t b[kMmaColumns][kRegisters];
      if (stages_.has_zero_points() && fresh_) {
#pragma unroll
        for (int n = 0; n < kMmaColumns; ++n)
          offsets_[n] = stages_.offsets_at(k)[group * kTile.columns + column + n * 8];
      }
      fresh_ = false;
#pragma unroll
      for (int n = 0; n < kMmaColumns; ++n) {
#pragma unroll
        for (int r = 0; r < kRegisters; ++r) {
          const int chunk = (step * kRegisters + r) * Converter::kChunks;
          if (chunk % 2 == 0) words[n].load(codes, a_.table, kTile.columns, column + n * 8, part, chunk);
          b[n][r] = stages_.fragment_of(words[n], chunk, offsets_[n]);
        }
      }
#pragma unroll
      for (int m = 0; m < kMmaRows; ++m) {
        uint32_t a[2 * kRegisters];
        load_fragment(a, x + swizzled_offset<Ring::kXRowBytes>(x_row + m * 16, step * kRegisters + x_chunk));
#pragma unroll
        for (int n = 0; n < kMmaColumns; ++n) multiply(group_sums_[m][n], a, b[n], T{});
        if constexpr (kSumsX) {
          uint32_t ones[kRegisters];
#pragma unroll
          for (int r = 0; r < kRegisters; ++r) ones[r] = Converter::kOnes;
          multiply(x_sums_[m][0], a, ones, T{});
        }
      }
      steps_left_ -= kColumns / kGroupStep;
      if (steps_left_ == 0 || (last && step == kSteps - 1)) {
        if (kIntegers && a_.counting) {
          add_group(k, group, [](int32_t sum) { return float_from_bits(static_cast<uint32_t>(sum)) - kCountingValue; });
        } else {
          add_group(k, group, [](GroupSum sum) { return static_cast<float>(sum); });
        }
        ++group;
      }
    }
  }

  // Scales the sums of a group, which value() makes numbers of, and adds them to the others.
  template <class Value>
  __device__ void add_group(int k, int group, Value&& value) {
    if constexpr (!kIntegers) {
      if (stages_.has_x_scales()) scale_rows(k);
    }
    const int first = group * kTile.columns + warp_first_column() + thread() % 4 * 2;
#pragma unroll
    for (int n = 0; n < kMmaColumns; ++n) {
      const uint2 bits = ptx::ld_shared_64(stages_.scales_at(k) + first + n * 8);
      const float scales[2] = {float_from_bits(bits.x), float_from_bits(bits.y)};
      uint2 offsets = {};
      if constexpr (kSumsX) offsets = ptx::ld_shared_64(stages_.offsets_at(k) + first + n * 8);
#pragma unroll
      for (int m = 0; m < kMmaRows; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& sum = sums_[m][n][i];
          const uint32_t offset = i % 2 == 0 ? offsets.x : offsets.y;
          const GroupSum x_sum = x_sums_[m][0][i / 2 * 2];  // equal in all columns
          GroupSum group_sum = group_sums_[m][n][i];
          if constexpr (kIntegers) {
            if (stages_.corrects_bytes()) group_sum -= static_cast<int32_t>(offset) * x_sum;
          }
          sum = fmaf(value(group_sum), scales[i % 2], sum);
          if (stages_.has_minima()) sum = fmaf(static_cast<float>(x_sum), -float_from_bits(offset), sum);
        }
      }
    }
    begin_group();
    steps_left_ = a_.group_steps;
  }

  // Multiplies the sums of the group that ends in stage `k` by the scales of x.
  __device__ void scale_rows(int k) {
    const float* scales = stages_.x_scales_at(k);
#pragma unroll
    for (int m = 0; m < kMmaRows; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp_row() * kWarpRows + m * 16 + half * 8 + thread() % 32 / 4;
        const float scale = float_from_bits(ptx::ld_shared_32(scales + row));
#pragma unroll
        for (int n = 0; n < kMmaColumns; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) group_sums_[m][n][half * 2 + i] *= scale;
        }
      }
    }
  }

  const Arguments& a_;
  Ring stages_;
  // Of the current group: whether it has no product yet, the steps that are left, and what is added to codes.
  bool fresh_;
  int steps_left_;
  uint32_t offsets_[kMmaColumns];
  float sums_[kMmaRows][kMmaColumns][4];
  GroupSum group_sums_[kMmaRows][kMmaColumns][4];
  GroupSum x_sums_[kMmaRows][1][4];  // of the rows of x in the group
};

// The tile is passed by index: nvcc's host code cannot name a kernel with a template argument of class type.
template <class T, Codes kCodes, int kBits, bool kSumsX, int kTileIndex>
MOE_KERNEL(gemm_mma_quantized_kernel,
           (gpu::kMmaQuantizedTiles[kTileIndex].threads(), gpu::kMmaQuantizedTiles[kTileIndex].blocks),
           const Arguments a) {
  MmaTile<T, kCodes, kBits, kSumsX, kTileIndex> tile(a);
  for_each_tile(a.gemm, [&](const RowTile& rows, int column_tile) { tile.compute(rows, column_tile); });
}

struct Mma {
  static constexpr size_t kTiles = std::size(gpu::kMmaQuantizedTiles);

  template <class T, Codes kCodes, int kBits, bool kSumsX, int kTileIndex>
  static constexpr auto* kernel() {
    return gemm_mma_quantized_kernel<T, kCodes, kBits, kSumsX, kTileIndex>;
  }
};

}  // namespace moe::MOE_GPU_NAMESPACE::quantized
