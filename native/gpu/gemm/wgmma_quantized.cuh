// The grouped GEMM on Hopper's tensor cores with weights of quantised formats. The product is transposed: columns of
// the weights are rows of wgmma, and rows of x its columns. Codes become fragments of A in registers; x is B, in shared
// memory. wgmma multiplies one piece of a stage in the background while the codes of the next piece are converted. The
// products of a group have accumulators of their own, which are scaled and added to the tile's at the group's end.
#pragma once

#include <iterator>

#include <ptx/ldmatrix.cuh>
#include <ptx/wgmma.cuh>

#include "gpu/gemm/quantized_stages.cuh"
#include "gpu/gemm/wgmma_products.cuh"
#include "gpu/gemm/wgmma_quantized.h"

namespace moe::MOE_GPU_NAMESPACE::quantized {

template <class T, Codes kCodes, int kBits, bool kSumsX, int kTileIndex>
class WgmmaTile {
 public:
  static constexpr gpu::GemmTile kTile = gpu::kWgmmaQuantizedTiles[kTileIndex];

  __device__ explicit WgmmaTile(const Arguments& a) : a_(a), stages_(a) {
    ptx::wgmma_check_base<Ring::kXRowBytes>(ptx::dynamic_shared<char>());
  }

  // Computes one tile and stores it.
  __device__ __forceinline__ void compute(const RowTile& rows, int column_tile) {
    clear(sums_);
    if (rows.expert >= 0) {
      stages_.find(rows, column_tile);
      if (a_.group_steps % 2 == 0) {
        multiply_all<2>();
      } else {
        multiply_all<1>();
      }
    }
    float* staged = ptx::dynamic_shared<float>();
    stage_sums(staged);
    finish_staged<kTile.columns>(a_.gemm, rows, column_tile, staged);
  }

 private:
  using Ring = Stages<T, kCodes, kBits, kSumsX, kTile.rows, kTile.columns, kTile.threads(), kTile.stages,
                      gpu::kWgmmaConvertedStages>;
  using GroupSum = typename Ring::GroupSum;
  using Converter = typename Ring::Converter;
  static constexpr bool kBytes = Ring::kBytes, kIntegers = Ring::kIntegers;
  static constexpr int kGroupColumns = 64;  // of a warpgroup's product
  static constexpr int kBlocks = kTile.columns / (kTile.warps_columns / 4) / kGroupColumns;
  static constexpr int kRowTiles = kTile.rows / 8;
  // How many of these each warp sums.
  static constexpr int kWarps = kTile.threads() / 32, kSummedTiles = (kRowTiles + kWarps - 1) / kWarps;
  static constexpr int kChunks = Converter::kChunks;
  // Stages in flight, or arrived but not yet multiplied.
  static constexpr int kAhead = kTile.stages - 2;
  static_assert(kAhead >= 2, "the next stage's groups are converted while others are on their way");

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  // The lane's column of the tile in half `half` of its rows of block `m`.
  __device__ static int column(int m, int half) {
    const int warp = thread() / 32;
    return (warp / 4 * kBlocks + m) * kGroupColumns + warp % 4 * 16 + half * 8 + thread() % 32 / 4;
  }

  // Whether a piece is half as deep as a product. Its fragments then alternate between the halves; the other is zeros.
  template <int kSteps>
  __device__ static constexpr bool is_half() {
    return kBytes && kSteps == 1;
  }

  // Multiplies all stages in pieces of kSteps steps. No piece crosses groups.
  template <int kSteps>
  __device__ __forceinline__ void multiply_all() {
    constexpr int kPieces = kStageSteps / kSteps;
    const int stages = stages_.count();
    steps_left_ = summed_steps_left_ = a_.group_steps;
    starts_group_ = true;
    clear_x_sums();
    if constexpr (is_half<kSteps>()) clear_fragments();
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) offsets_[m][half] = stages_.fixed_offset();
    }
#pragma unroll
    for (int k = 0; k < kAhead - 1; ++k) {
      if (k < stages) stages_.load(k);
      ptx::cp_async_commit();
    }
    int ended = 0;
#pragma unroll 1
    for (int k = -1; k < stages; ++k) {
      arrive(k, stages);
      if (k < 0) continue;
      convert_piece<kSteps>(k, 0, 0);
      finish_piece(starts_group_ && k > 0, k - 1, ended);
      int group = 0;
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        multiply_piece<kSteps>(k, piece);
        steps_left_ -= kSteps;
        starts_group_ = steps_left_ == 0 || (k + 1 == stages && piece + 1 == kPieces);
        ended = group;
        group += starts_group_;
        if (piece + 1 < kPieces) {
          convert_piece<kSteps>(k, piece + 1, group);
          finish_piece(starts_group_, k, ended);
        }
      }
    }
    finish_piece(stages > 0, stages - 1, ended);
    ptx::cp_async_wait<0>();
    __syncthreads();
  }

  // Waits for the products of a piece of stage `k`. If it `ends` group `group`, adds that to the tile.
  __device__ __forceinline__ void finish_piece(bool ends, int k, int group) {
    ptx::wgmma_wait<0>();
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) ptx::wgmma_keep(group_sums_[m]);
    if (ends) end_group(k, group);
  }

  __device__ __forceinline__ void clear_fragments() {
#pragma unroll
    for (auto& of_piece : fragments_) {
#pragma unroll
      for (auto& of_block : of_piece) {
#pragma unroll
        for (uint32_t& numbers : of_block[0]) numbers = 0;
      }
    }
  }

  // Stages k and k + 1 have arrived for all threads, the groups of k are converted, and all have waited for the
  // products of stage k - 2, which the next copies overwrite.
  __device__ __forceinline__ void arrive(int k, int stages) {
    ptx::cp_async_wait<kAhead - 2>();
    ptx::fence_proxy_async();
    __syncthreads();
    if (k + kAhead < stages) stages_.load(k + kAhead);
    ptx::cp_async_commit();
    if (k + 1 < stages) stages_.convert_groups(k + 1);
    if (kSumsX && k + 1 < stages) sum_rows(k + 1, k + 2 == stages);
  }

  // The sums of x in stage `k`'s groups, [groups][rows].
  __device__ __forceinline__ GroupSum* x_sums_at(int k) const {
    return reinterpret_cast<GroupSum*>(stages_.end()) +
           k % gpu::kWgmmaConvertedStages * a_.scales.staged.groups * kTile.rows;
  }

  // Sums x in stage `k`'s groups, by products with ones.
  __device__ __forceinline__ void sum_rows(int k, bool last) {
    constexpr int kRegisters = 2 / kChunks;  // of a step
    const char* x = stages_.x_at(k);
    int lane = thread() % 32, warp = thread() / 32;
    // Keeps the compiler from holding addresses in registers from stage to stage, where they would spill.
    asm volatile("" : "+r"(lane), "+r"(warp));
    uint32_t ones[2 * kRegisters];
#pragma unroll
    for (uint32_t& register_of_ones : ones) register_of_ones = Converter::kOnes;
    // Four chunks of rows of x.
    uint32_t chunks[kSummedTiles][4];
    int group = 0;
#pragma unroll
    for (int step = 0; step < kStageSteps; ++step) {
      const int chunk = step * kRegisters;
#pragma unroll
      for (int i = 0; i < kSummedTiles; ++i) {
        if (chunk % 4 == 0) {
          const int row = (warp + i * kWarps) % kRowTiles * 8 + lane % 8;
          ptx::ldmatrix_x4(chunks[i], x + swizzled_offset<Ring::kXRowBytes>(row, chunk + lane / 8));
        }
        uint32_t of_step[kRegisters];
#pragma unroll
        for (int r = 0; r < kRegisters; ++r) of_step[r] = chunks[i][chunk % 4 + r];
        // All rows of a product are equal.
        GroupSum d[4] = {x_sums_[i][0], x_sums_[i][1]};
        multiply(d, ones, of_step, T{});
        x_sums_[i][0] = d[0], x_sums_[i][1] = d[1];
      }
      if (--summed_steps_left_ == 0 || (last && step + 1 == kStageSteps)) {
        store_x_sums(x_sums_at(k) + group * kTile.rows);
        ++group;
        clear_x_sums();
        summed_steps_left_ = a_.group_steps;
      }
    }
  }

  __device__ __forceinline__ void clear_x_sums() {
#pragma unroll
    for (auto& of_tile : x_sums_) of_tile[0] = of_tile[1] = 0;
  }

  __device__ __forceinline__ void store_x_sums(GroupSum* to) const {
    const int warp = thread() / 32, lane = thread() % 32;
#pragma unroll
    for (int i = 0; i < kSummedTiles; ++i) {
      const int tile = warp + i * kWarps;
      if (lane < 4 && tile < kRowTiles) {
        to[tile * 8 + lane * 2] = x_sums_[i][0];
        to[tile * 8 + lane * 2 + 1] = x_sums_[i][1];
      }
    }
  }

  // Makes fragments of a piece's codes, which lie in the stage's group `group`. Products may still be reading those of
  // the piece before.
  template <int kSteps>
  __device__ __forceinline__ void convert_piece(int k, int piece, int group) {
    const char* codes = stages_.codes_at(k);
    const int part = thread() % 4;
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (stages_.has_zero_points() && starts_group_) {
          offsets_[m][half] = stages_.offsets_at(k)[group * kTile.columns + column(m, half)];
        }
#pragma unroll
        for (int i = 0; i < kSteps * 2 / kChunks; ++i) {
          const int chunk = piece * kSteps * 2 + i * kChunks;
          if (chunk % 2 == 0) words_[m][half].load(codes, a_.table, kTile.columns, column(m, half), part, chunk);
          const uint32_t numbers = stages_.fragment_of(words_[m][half], chunk, offsets_[m][half]);
          const int r = is_half<kSteps>() ? piece % 2 : i % 2;
          fragments_[piece % 2][m][i / 2][half + r * 2] = numbers;
        }
      }
    }
  }

  // Enqueues the products of a piece.
  template <int kSteps>
  __device__ __forceinline__ void multiply_piece(int k, int piece) {
    constexpr int kProducts = is_half<kSteps>() ? 1 : kSteps / kChunks;
    const uint64_t x = ptx::wgmma_descriptor<Ring::kXRowBytes>(stages_.x_at(k));
    // Before the fence: the conversions, and the sums of a group that ended.
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
      for (int i = 0; i < kProducts; ++i) ptx::wgmma_keep(fragments_[piece % 2][m][i]);
      ptx::wgmma_keep(group_sums_[m]);
    }
    ptx::wgmma_fence();
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
      for (int i = 0; i < kProducts; ++i) {
        const int step = is_half<kSteps>() ? piece / 2 : piece * kProducts + i;
        multiply_async<kTile.rows>(group_sums_[m], fragments_[piece % 2][m][i],
                                   ptx::wgmma_descriptor_at(x, step * kStepBytes), i > 0 || !starts_group_, T{});
      }
    }
    ptx::wgmma_commit();
  }

  // Scales the sums of stage `k`'s group `group` and adds them to the others.
  __device__ __forceinline__ void end_group(int k, int group) {
    if (kIntegers && a_.counting) {
      add_group(k, group, [](GroupSum sum) {
        return float_from_bits(static_cast<uint32_t>(sum) + static_cast<uint32_t>(kCountingBits)) - kCountingValue;
      });
    } else {
      if constexpr (!kIntegers) {
        if (stages_.has_x_scales()) scale_rows(k);
      }
      add_group(k, group, [](GroupSum sum) { return static_cast<float>(sum); });
    }
    steps_left_ = a_.group_steps;
  }

  __device__ static GroupSum sum_of_bits(uint32_t bits) {
    if constexpr (kIntegers) return static_cast<int32_t>(bits);
    return float_from_bits(bits);
  }

  // value() makes numbers of the group's sums.
  template <class Value>
  __device__ __forceinline__ void add_group(int k, int group, Value&& value) {
    float scales[kBlocks][2];
    uint32_t offsets[kBlocks][2] = {};
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int place = group * kTile.columns + column(m, half);
        scales[m][half] = stages_.scales_at(k)[place];
        if constexpr (kSumsX) offsets[m][half] = stages_.offsets_at(k)[place];
      }
    }
    const GroupSum* x_sums = x_sums_at(k) + group * kTile.rows + thread() % 4 * 2;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      uint2 of_rows = {};
      if constexpr (kSumsX) of_rows = ptx::ld_shared_64(x_sums + n * 8);
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const GroupSum x_sum = sum_of_bits(i % 2 == 0 ? of_rows.x : of_rows.y);
          const uint32_t offset = offsets[m][i / 2];
          GroupSum group_sum = group_sums_[m][n][i];
          if constexpr (kIntegers) {
            if (stages_.corrects_bytes()) group_sum -= static_cast<int32_t>(offset) * x_sum;
          }
          float sum = fmaf(value(group_sum), scales[m][i / 2], sums_[m][n][i]);
          if (stages_.has_minima()) sum = fmaf(static_cast<float>(x_sum), -float_from_bits(offset), sum);
          sums_[m][n][i] = sum;
        }
      }
    }
  }

  // Multiplies the sums of the group that ends in stage `k` by the scales of x.
  __device__ __forceinline__ void scale_rows(int k) {
    const float* scales = stages_.x_scales_at(k) + thread() % 4 * 2;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      const uint2 bits = ptx::ld_shared_64(scales + n * 8);
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) group_sums_[m][n][i] *= float_from_bits(i % 2 == 0 ? bits.x : bits.y);
      }
    }
  }

  // Writes the accumulators to shared memory for finish_staged. Lanes take their two rows in an order that keeps them
  // in different banks.
  __device__ __forceinline__ void stage_sums(float* staged) const {
    int lane_part = thread() % 4;
    // Keeps the compiler from holding addresses in registers from tile to tile, where they would spill.
    asm volatile("" : "+r"(lane_part));
    const int later = lane_part / 2;
#pragma unroll
    for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
      for (int n = 0; n < kRowTiles; ++n) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float first = sums_[m][n][half * 2], second = sums_[m][n][half * 2 + 1];
          float* to = staged + (n * 8 + lane_part * 2) * gpu::staged_pitch(kTile.columns) + column(m, half);
          to[later * gpu::staged_pitch(kTile.columns)] = later != 0 ? second : first;
          to[(1 - later) * gpu::staged_pitch(kTile.columns)] = later != 0 ? first : second;
        }
      }
    }
  }

  const Arguments& a_;
  Ring stages_;
  // Steps of the current group that are left to multiply, and to sum.
  int steps_left_, summed_steps_left_;
  bool starts_group_;             // whether the next piece begins a group; then the last piece, if any, ended one
  uint32_t offsets_[kBlocks][2];  // added to the current group's codes
  CodeWord<kCodes, kBits> words_[kBlocks][2];
  // Of two pieces: one is multiplied, one converted.
  uint32_t fragments_[2][kBlocks][2][4];
  GroupSum x_sums_[kSummedTiles][2];  // of the group that is summed
  float sums_[kBlocks][kRowTiles][4];
  GroupSum group_sums_[kBlocks][kRowTiles][4];
};

// The tile is passed by index: nvcc's host code cannot name a kernel with a template argument of class type.
template <class T, Codes kCodes, int kBits, bool kSumsX, int kTileIndex>
MOE_KERNEL(gemm_wgmma_quantized_kernel,
           (gpu::kWgmmaQuantizedTiles[kTileIndex].threads(), gpu::kWgmmaQuantizedTiles[kTileIndex].blocks),
           const Arguments a) {
  if constexpr (ptx::kHasWgmma) {
    WgmmaTile<T, kCodes, kBits, kSumsX, kTileIndex> tile(a);
    for_each_tile(a.gemm, [&](const RowTile& rows, int column_tile) { tile.compute(rows, column_tile); });
  } else {
    ptx::wgmma_fence();
  }
}

struct Wgmma {
  static constexpr size_t kTiles = std::size(gpu::kWgmmaQuantizedTiles);

  template <class T, Codes kCodes, int kBits, bool kSumsX, int kTileIndex>
  static constexpr auto* kernel() {
    return gemm_wgmma_quantized_kernel<T, kCodes, kBits, kSumsX, kTileIndex>;
  }
};

}  // namespace moe::MOE_GPU_NAMESPACE::quantized
