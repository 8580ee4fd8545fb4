// The grouped GEMM on tensor cores with weights of quantised formats. A ring of stages is filled by cp.async: rows of
// x, codes, and the values of their groups, all as they are in memory. While one stage is multiplied, the group values
// of the next are converted. Codes become elements of x's type, 16-bit numbers or bytes, between shared memory and
// fragments. A group's products are summed in accumulators of their own, which are scaled and added to the others at
// the group's end.
#pragma once

#include <type_traits>

#include <ptx/ldmatrix.cuh>

#include "gpu/gemm/fragment_codes.cuh"
#include "gpu/gemm/mma_quantized_arguments.cuh"
#include "gpu/gemm/mma_tile.cuh"
#include "gpu/gemm/quantized.cuh"

namespace moe::MOE_GPU_NAMESPACE {

namespace mma_quantized {

using gpu::GemmTile;
using gpu::kGroupStep;
using gpu::kQuadBytes;
// Steps of groups in a stage.
constexpr int kStageSteps = gpu::kCodeStage / kGroupStep;
// Integers from -2^22 to 2^22 - 1 that are added to these bits leave those of 1.5 * 2^23 plus the integer.
constexpr int32_t kCountingBits = 0x4b400000;
constexpr float kCountingValue = 0x1.8p23f;

__device__ __forceinline__ void load_fragment(uint32_t (&registers)[4], const char* row) {
  ptx::ldmatrix_x4(registers, row);
}
__device__ __forceinline__ void load_fragment(uint32_t (&registers)[2], const char* row) {
  ptx::ldmatrix_x2(registers, row);
}

// kSumsX: whether minima, or what bytes of codes lack, multiply the sums of x.
template <class T, Codes kCodes, int kBits, bool kSumsX, int kTileIndex>
class Tile {
 public:
  static constexpr GemmTile kTile = gpu::kMmaQuantizedTiles[kTileIndex];
  static constexpr int kThreads = kTile.threads();
  static_assert(kTile.stages >= 3, "one stage is multiplied and one converted while others are on their way");

  __device__ explicit Tile(const Arguments& a) : a_(a), shared_(ptx::dynamic_shared<char>()) {}

  // Computes one tile and stores it.
  __device__ void compute(const RowTile& rows, int column_tile) {
    const GemmArguments& gemm = a_.gemm;
    clear(sums_);
    if (rows.expert >= 0) {
      x_.find(gemm, rows);
      packed_ = packed_matrix(gemm, rows.place);
      first_x_row_ = rows.first_row;
      x_rows_ = rows.rows;
      first_row_ = static_cast<int64_t>(column_tile) * kTile.columns;
      const int64_t left = gemm.packed.padded_rows - first_row_;
      packed_rows_ = left < kTile.columns ? static_cast<int>(left) : kTile.columns;
      find_codes();
      multiply_all();
    }
    float* staged = reinterpret_cast<float*>(shared_);
    stage_fragments<kTile.columns>(staged, warp_row() * kWarpRows, warp_first_column(), sums_);
    finish_staged<kTile.columns>(gemm, rows, column_tile, staged);
  }

 private:
  // Rows of x are codes in bytes; their sums are integers or not.
  static constexpr bool kBytes = sizeof(T) == 1, kIntegers = std::is_same_v<T, int8_t>;
  using GroupSum = std::conditional_t<kIntegers, int32_t, float>;
  using Converter = FragmentCodes<T, kCodes, kBits>;
  using Word = CodeWord<kCodes, kBits>;
  static constexpr int kXRowBytes = gpu::kCodeStage * static_cast<int>(sizeof(T));
  static constexpr int kWarpRows = kTile.rows / kTile.warps_rows;
  static constexpr int kWarpColumns = kTile.columns / kTile.warps_columns;
  static constexpr int kMmaRows = kWarpRows / 16;
  static constexpr int kMmaColumns = kWarpColumns / 8;
  // Pieces of 16 bytes that a stage has of codes, and how many of them a thread copies.
  static constexpr int kQuads = gpu::stage_bytes(kBits) / kQuadBytes;
  static constexpr int kCodeChunks = gpu::stage_bytes(kBits) * kTile.columns / kQuadBytes;
  static constexpr int kCodeCopies = (kCodeChunks + kThreads - 1) / kThreads;
  // Neighbouring columns whose groups a thread converts.
  static constexpr int kGroupRun = 4;

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int warp_row() { return thread() / 32 / kTile.warps_columns; }
  __device__ static int warp_first_column() { return thread() / 32 % kTile.warps_columns * kWarpColumns; }

  __device__ char* stage_at(int k) const { return shared_ + k % kTile.stages * a_.stage.bytes; }
  // The converted scales of stage `k`, and behind them its offsets.
  __device__ float* scales_at(int k) const {
    char* converted = shared_ + kTile.stages * a_.stage.bytes;
    return reinterpret_cast<float*>(converted) + k % 2 * 2 * values_in_stage();
  }
  __device__ uint32_t* offsets_at(int k) const { return reinterpret_cast<uint32_t*>(scales_at(k)) + values_in_stage(); }
  __device__ int values_in_stage() const { return a_.scales.staged.groups * kTile.columns; }

  // Where bytes have zero points, these multiply the sums of x.
  __device__ bool has_zero_points() const {
    return !kIntegers && !kSumsX && kCodes == Codes::integers && a_.gemm.format.offset == Offset::zero_point;
  }
  __device__ bool has_minima() const {
    return kSumsX && gpu::may_have_minima(kBits) && (!kIntegers || a_.gemm.format.offset == Offset::minimum);
  }
  __device__ bool corrects_bytes() const { return kIntegers && kSumsX && !has_minima(); }
  // Rows of codes with scales for groups are e4m3, perhaps as bfloat16, and so are their weights.
  __device__ bool has_x_scales() const {
    constexpr bool kMayHaveScales = std::is_same_v<T, fp8> || std::is_same_v<T, bf16>;
    return kCodes == Codes::e4m3 && kMayHaveScales && a_.gemm.input.scales != nullptr;
  }

  // Enqueues the copies of stage `k`. What lies outside x, the weights or their groups becomes zeros.
  __device__ void load_stage(int k) {
    char* stage = stage_at(k);
    x_.load(a_.gemm, k, stage);
    load_codes(stage + a_.stage.codes);
    load_level(a_.scales, k, stage);
    load_level(a_.super_scales, k, stage);
    load_level(a_.zeros, k, stage);
    load_level(a_.super_zeros, k, stage);
    if (has_x_scales()) load_x_scales(k, stage + a_.stage.x_scales);
  }

  __device__ void load_x_scales(int k, char* to) const {
    const GemmInput& input = a_.gemm.input;
    const float* source = input.scales + a_.scales.steps.at(k * kStageSteps) * input.rows + first_x_row_;
    for (int row = thread(); row < kTile.rows; row += kThreads) {
      const bool exists = row < x_rows_;
      ptx::cp_async_4_zfill(to + row * static_cast<int>(sizeof(float)), exists ? source + row : source, exists ? 4 : 0);
    }
  }

  // Where this thread's copies of codes come from. Columns behind the last, which nobody stores, have codes of others.
  __device__ void find_codes() {
    const int64_t quads_bytes = a_.gemm.packed.padded_rows * kQuadBytes;
#pragma unroll
    for (int i = 0; i < kCodeCopies; ++i) {
      const int chunk = i * kThreads + thread();
      const int piece = chunk / kTile.columns, place = chunk % kTile.columns * kQuadBytes;
      const int row_bytes = piece == kQuads ? kQuadBytes / 2 : kQuadBytes;
      const int last = packed_rows_ * row_bytes - kQuadBytes;
      codes_[i] = packed_ + piece * quads_bytes + first_row_ * row_bytes + (place < last ? place : last);
    }
  }

  // Stages are loaded in order.
  __device__ void load_codes(char* codes) {
#pragma unroll
    for (int i = 0; i < kCodeCopies; ++i) {
      const int chunk = i * kThreads + thread();
      if (kCodeChunks % kThreads == 0 || chunk < kCodeChunks) ptx::cp_async_16(codes + chunk * kQuadBytes, codes_[i]);
      codes_[i] += a_.gemm.packed.pitch;
    }
  }

  __device__ void load_level(const Level& level, int k, char* stage) const {
    for (int chunk = thread(); chunk < level.chunks; chunk += kThreads) {
      const int group = level.steps.at(k * kStageSteps) + (chunk >> level.shift);
      const int place = (chunk & ((1 << level.shift) - 1)) * kQuadBytes;
      const bool exists = group < level.groups && place < packed_rows_ * level.staged.bytes;
      const char* source = packed_ + level.first;
      if (exists) source += group * level.pitch + first_row_ * level.staged.bytes + place;
      ptx::cp_async_16_zfill(stage + level.staged.place + chunk * kQuadBytes, source, exists ? kQuadBytes : 0);
    }
  }

  // Converts the values of stage `k`'s groups.
  __device__ void convert_groups(int k) const {
    constexpr int kRuns = kTile.columns / kGroupRun;
    const char* stage = stage_at(k);
    const int first_step = k * kStageSteps;
    for (int run = thread(); run < a_.scales.staged.groups * kRuns; run += kThreads) {
      const int group = run / kRuns, column = run % kRuns * kGroupRun;
      // A step of the group in this stage.
      int step = (a_.scales.steps.at(first_step) + group) * a_.group_steps;
      step = step < first_step ? first_step : step < first_step + kStageSteps ? step : first_step;
      const int super_group = a_.super_scales.steps.at(step) - a_.super_scales.steps.at(first_step);
      const auto load = [&](const Level& level, int level_group, uint32_t(&values)[kGroupRun]) {
        if (level.staged.groups == 0) return;
        load_values(stage + level.staged.place, level.staged.bytes, level_group * kTile.columns + column, values);
      };
      GroupValues<kGroupRun> values = {};
      load(a_.scales, group, values.scale);
      load(a_.super_scales, super_group, values.super_scale);
      load(a_.zeros, group, values.zero);
      load(a_.super_zeros, super_group, values.super_zero);
      const GroupScale<kGroupRun> converted = scale_of_group(a_.gemm.format, values);
      const int place = group * kTile.columns + column;
      uint32_t bits[kGroupRun];
#pragma unroll
      for (int i = 0; i < kGroupRun; ++i) bits[i] = float_bits(converted.scale[i] * a_.unit);
      ptx::st_shared_128(scales_at(k) + place, to_quad(bits));
      if (!has_zero_points() && !kSumsX) continue;
#pragma unroll
      for (int i = 0; i < kGroupRun; ++i) {
        bits[i] = has_minima() ? float_bits(converted.minimum[i]) : Converter::offset(static_cast<int>(values.zero[i]));
      }
      ptx::st_shared_128(offsets_at(k) + place, to_quad(bits));
    }
  }

  __device__ static uint4 to_quad(const uint32_t (&bits)[kGroupRun]) { return {bits[0], bits[1], bits[2], bits[3]}; }

  __device__ void multiply_all() {
    const int stages = stages_of<T, kXRowBytes>(a_.gemm.columns);
    begin_group();
    steps_left_ = a_.group_steps;
#pragma unroll
    for (int n = 0; n < kMmaColumns; ++n) offsets_[n] = fixed_offset();
#pragma unroll 1
    for (int k = 1 - kTile.stages; k < stages; ++k) {
      if (k >= -1) {
        ptx::cp_async_wait<kTile.stages - 3>();
        // Stages k and k + 1 have arrived for all threads, the groups of k are converted, and all are done with stage
        // k - 1, which the next copies and conversions overwrite.
        __syncthreads();
      }
      if (k + kTile.stages - 1 < stages) load_stage(k + kTile.stages - 1);
      ptx::cp_async_commit();
      if (k < -1) continue;
      if (k + 1 < stages) convert_groups(k + 1);
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

  // What is added to codes that have no zero point of their own.
  __device__ uint32_t fixed_offset() const {
    return Converter::offset(kCodes == Codes::table ? 128 : zero_of_codes(a_.gemm.format));
  }

  __device__ void begin_group() {
    clear(group_sums_, kIntegers && a_.counting ? static_cast<GroupSum>(kCountingBits) : GroupSum{});
    clear(x_sums_);
    fresh_ = true;
  }

  // Multiplies in steps of `kColumns` columns, each of which is part of one group.
  template <int kColumns>
  __device__ void multiply_stage(int k, bool last) {
    constexpr int kSteps = gpu::kCodeStage / kColumns;
    constexpr int kRegisters = kColumns / (Converter::kChunks * gpu::kCodeChunk);  // of a fragment of codes
    const char* x = stage_at(k);
    const char* codes = x + a_.stage.codes;
    const int lane = thread() % 32;
    // The row and chunk that this lane addresses for ldmatrix.
    const int x_row = warp_row() * kWarpRows + lane % 16;
    const int x_chunk = kRegisters == 2 ? lane / 16 : 0;
    // The column of the first fragment whose codes this lane converts, and its part of them.
    const int column = warp_first_column() + lane / 4, part = lane % 4;
    int group = 0;
    Word words[kMmaColumns];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t b[kMmaColumns][kRegisters];
      if (has_zero_points() && fresh_) {
#pragma unroll
        for (int n = 0; n < kMmaColumns; ++n) offsets_[n] = offsets_at(k)[group * kTile.columns + column + n * 8];
      }
      fresh_ = false;
#pragma unroll
      for (int n = 0; n < kMmaColumns; ++n) {
#pragma unroll
        for (int r = 0; r < kRegisters; ++r) {
          const int chunk = (step * kRegisters + r) * Converter::kChunks;
          if (chunk % 2 == 0) words[n].load(codes, a_.table, kTile.columns, column + n * 8, part, chunk);
          b[n][r] = kBytes ? Converter::convert(words[n].quad(chunk, a_.table), zero_of_codes(a_.gemm.format))
                           : Converter::convert(words[n].pair(chunk, a_.table), offsets_[n]);
        }
      }
#pragma unroll
      for (int m = 0; m < kMmaRows; ++m) {
        uint32_t a[2 * kRegisters];
        load_fragment(a, x + swizzled_offset<kXRowBytes>(x_row + m * 16, step * kRegisters + x_chunk));
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
      if (has_x_scales()) scale_rows(k);
    }
    const int first = group * kTile.columns + warp_first_column() + thread() % 4 * 2;
#pragma unroll
    for (int n = 0; n < kMmaColumns; ++n) {
      const uint2 bits = ptx::ld_shared_64(scales_at(k) + first + n * 8);
      const float scales[2] = {float_from_bits(bits.x), float_from_bits(bits.y)};
      uint2 offsets = {};
      if constexpr (kSumsX) offsets = ptx::ld_shared_64(offsets_at(k) + first + n * 8);
#pragma unroll
      for (int m = 0; m < kMmaRows; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& sum = sums_[m][n][i];
          const uint32_t offset = i % 2 == 0 ? offsets.x : offsets.y;
          const GroupSum x_sum = x_sums_[m][0][i / 2 * 2];  // equal in all columns
          GroupSum group_sum = group_sums_[m][n][i];
          if constexpr (kIntegers) {
            if (corrects_bytes()) group_sum -= static_cast<int32_t>(offset) * x_sum;
          }
          sum = fmaf(value(group_sum), scales[i % 2], sum);
          if (has_minima()) sum = fmaf(static_cast<float>(x_sum), -float_from_bits(offset), sum);
        }
      }
    }
    begin_group();
    steps_left_ = a_.group_steps;
  }

  // Multiplies the sums of the group that ends in stage `k` by the scales of x.
  __device__ void scale_rows(int k) {
    const char* scales = stage_at(k) + a_.stage.x_scales;
#pragma unroll
    for (int m = 0; m < kMmaRows; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp_row() * kWarpRows + m * 16 + half * 8 + thread() % 32 / 4;
        const float scale = float_from_bits(ptx::ld_shared_32(scales + row * static_cast<int>(sizeof(float))));
#pragma unroll
        for (int n = 0; n < kMmaColumns; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) group_sums_[m][n][half * 2 + i] *= scale;
        }
      }
    }
  }

  const Arguments& a_;
  char* shared_;
  TileRows<T, kTile.rows, kThreads, kXRowBytes> x_;
  int64_t first_x_row_;
  int x_rows_;
  const char* packed_;
  int64_t first_row_;
  int packed_rows_;
  const char* codes_[kCodeCopies];
  // Of the current group: whether it has no product yet, the steps that are left, and what is added to codes.
  bool fresh_;
  int steps_left_;
  uint32_t offsets_[kMmaColumns];
  float sums_[kMmaRows][kMmaColumns][4];
  GroupSum group_sums_[kMmaRows][kMmaColumns][4];
  GroupSum x_sums_[kMmaRows][1][4];  // of the rows of x in the group
};

}  // namespace mma_quantized

}  // namespace moe::MOE_GPU_NAMESPACE
