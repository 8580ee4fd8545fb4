// The grouped GEMM on tensor cores with weights of quantised formats. A ring of stages is filled by cp.async: rows of
// x, codes, and the values of their groups, all as they are in memory. While one stage is multiplied, the group values
// of the next are converted. Codes become 16-bit numbers between shared memory and fragments. A group's products are
// summed in accumulators of their own, which are scaled and added to the others at the group's end.
#pragma once

#include <iterator>
#include <utility>

#include <ptx/ldmatrix.cuh>

#include "gpu/gemm/dequantized_pairs.cuh"
#include "gpu/gemm/functions.cuh"
#include "gpu/gemm/mma_quantized.h"
#include "gpu/gemm/mma_tile.cuh"
#include "gpu/gemm/quantized.cuh"

namespace moe::MOE_GPU_NAMESPACE {

namespace mma_quantized {

using gpu::GemmTile;
using gpu::kGroupStep;
using gpu::kQuadBytes;
static_assert(gpu::kCodeStage == kTileRowBytes / 2 && kGroupStep * 2 == kStepBytes, "stages and steps of x and codes");

// One level in global and in shared memory.
struct Level {
  int64_t first;  // in an expert's packed matrix
  int groups;     // of all columns
  gpu::GroupSteps steps;
  gpu::StagedLevel staged;
};

struct Arguments {
  GemmArguments gemm;
  gpu::QuantizedStage stage;
  Level scales, super_scales, zeros, super_zeros;
  int group_steps;    // of a group of scales
  uint32_t table[4];  // of bytes, for Codes::table
  float unit;         // multiplies every code
};

template <class T, Codes kCodes, int kBits, int kTileIndex>
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
      first_row_ = static_cast<int64_t>(column_tile) * kTile.columns;
      const int64_t left = gemm.packed.padded_rows - first_row_;
      packed_rows_ = left < kTile.columns ? static_cast<int>(left) : kTile.columns;
      multiply_all();
    }
    float* staged = reinterpret_cast<float*>(shared_);
    stage_fragments<kTile.columns>(staged, warp_row() * kWarpRows, warp_first_column(), sums_);
    finish_staged<kTile.columns>(gemm, rows, column_tile, staged);
  }

 private:
  using Converter = PairConverter<T, kCodes, kBits>;
  using Word = CodeWord<kCodes, kBits>;
  static constexpr int kWarpRows = kTile.rows / kTile.warps_rows;
  static constexpr int kWarpColumns = kTile.columns / kTile.warps_columns;
  static constexpr int kMmaRows = kWarpRows / 16;
  static constexpr int kMmaColumns = kWarpColumns / 8;
  static constexpr int kLowQuads = gpu::low_quads(kBits), kHigh = gpu::high_bits(kBits);
  static constexpr int kPieceBytes = kTile.columns * kQuadBytes;

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

  __device__ bool has_zero_points() const {
    return kCodes == Codes::integers && a_.gemm.format.offset == Offset::zero_point;
  }
  __device__ bool has_minima() const {
    return kCodes == Codes::integers && gpu::may_have_minima(kBits) && a_.gemm.format.offset == Offset::minimum;
  }

  // Enqueues the copies of stage `k`. What lies outside x, the weights or their groups becomes zeros.
  __device__ void load_stage(int k) {
    char* stage = stage_at(k);
    x_.load(a_.gemm, k, stage);
    load_codes(k, stage + a_.stage.codes);
    load_level(a_.scales, k, stage);
    load_level(a_.super_scales, k, stage);
    load_level(a_.zeros, k, stage);
    load_level(a_.super_zeros, k, stage);
  }

  __device__ void load_codes(int k, char* codes) const {
    constexpr int kQuads = kLowQuads + kHigh / 2;
    constexpr int kChunks = kQuads * kTile.columns + kHigh % 2 * kTile.columns / 2;
    const gpu::PackedMatrix& packed = a_.gemm.packed;
    const char* source = packed_ + k * packed.pitch;
#pragma unroll
    for (int i = 0; i < (kChunks + kThreads - 1) / kThreads; ++i) {
      const int chunk = i * kThreads + thread();
      const int piece = chunk / kTile.columns, place = chunk % kTile.columns;
      const bool halves = piece == kQuads;
      const int row_bytes = halves ? kQuadBytes / 2 : kQuadBytes;
      const bool exists = place * kQuadBytes < packed_rows_ * row_bytes;
      const int64_t offset = piece * packed.padded_rows * kQuadBytes + first_row_ * row_bytes + place * kQuadBytes;
      if (kChunks % kThreads != 0 && chunk >= kChunks) break;
      ptx::cp_async_16_zfill(codes + chunk * kQuadBytes, exists ? source + offset : source, exists ? kQuadBytes : 0);
    }
  }

  __device__ void load_level(const Level& level, int k, char* stage) const {
    // Copies of 16 bytes in a group: 8, 16 or 32.
    const int bytes = level.staged.bytes, shift = 3 + bytes / 2;
    static_assert(kTile.columns == 8 * kQuadBytes);
    const int first_group = level.steps.at(k * kStepsPerStage);
    for (int chunk = thread(); chunk < level.staged.groups << shift; chunk += kThreads) {
      const int group = first_group + (chunk >> shift), place = (chunk & ((1 << shift) - 1)) * kQuadBytes;
      const bool exists = group < level.groups && place < packed_rows_ * bytes;
      const char* source = packed_ + level.first;
      if (exists) source += (group * a_.gemm.packed.padded_rows + first_row_) * bytes + place;
      ptx::cp_async_16_zfill(stage + level.staged.place + chunk * kQuadBytes, source, exists ? kQuadBytes : 0);
    }
  }

  // Converts the values of stage `k`'s groups.
  __device__ void convert_groups(int k) const {
    const char* stage = stage_at(k);
    const WeightFormat& format = a_.gemm.format;
    float* scales = scales_at(k);
    uint32_t* offsets = offsets_at(k);
    const int first_step = k * kStepsPerStage;
    const int first_group = a_.scales.steps.at(first_step), first_super = a_.super_scales.steps.at(first_step);
    for (int i = thread(); i < values_in_stage(); i += kThreads) {
      const int group = i / kTile.columns, column = i % kTile.columns;
      // A step of the group in this stage.
      int step = (first_group + group) * a_.group_steps;
      step = step < first_step ? first_step : step < first_step + kStepsPerStage ? step : first_step;
      const int super_group = a_.super_scales.steps.at(step) - first_super;
      const auto value = [&](const Level& level, int index) {
        return level.staged.groups == 0 ? 0u : load_value(stage + level.staged.place, level.staged.bytes, index);
      };
      const int super_index = super_group * kTile.columns + column;
      const GroupValues values{.scale = value(a_.scales, i),
                               .super_scale = value(a_.super_scales, super_index),
                               .zero = value(a_.zeros, i),
                               .super_zero = value(a_.super_zeros, super_index)};
      const GroupScale converted = scale_of_group(format, values);
      scales[i] = converted.scale * a_.unit;
      if (has_zero_points()) offsets[i] = Converter::offset(static_cast<int>(values.zero));
      if (has_minima()) offsets[i] = float_bits(converted.minimum);
    }
  }

  __device__ void multiply_all() {
    const int stages = stages_of<T>(a_.gemm.columns);
#pragma unroll 1
    for (int k = 0; k < kTile.stages - 1; ++k) {
      if (k < stages) load_stage(k);
      ptx::cp_async_commit();
    }
    ptx::cp_async_wait<kTile.stages - 2>();
    __syncthreads();
    if (stages > 0) convert_groups(0);
    begin_group();
    steps_left_ = a_.group_steps;
#pragma unroll
    for (int n = 0; n < kMmaColumns; ++n) offsets_[n] = fixed_offset();
    for (int k = 0; k < stages; ++k) {
      ptx::cp_async_wait<kTile.stages - 3>();
      // Stages k and k + 1 have arrived for all threads, the groups of k are converted, and all are done with stage
      // k - 1, which the next copies and conversions overwrite.
      __syncthreads();
      if (k + kTile.stages - 1 < stages) load_stage(k + kTile.stages - 1);
      ptx::cp_async_commit();
      if (k + 1 < stages) convert_groups(k + 1);
      multiply_stage(k, k + 1 == stages);
    }
    ptx::cp_async_wait<0>();
    __syncthreads();
  }

  // What is added to codes that have no zero point of their own.
  __device__ uint32_t fixed_offset() const {
    return Converter::offset(kCodes == Codes::table ? 128 : zero_of_codes(a_.gemm.format));
  }

  __device__ void begin_group() {
    clear(group_sums_);
    clear(x_sums_);
    fresh_ = true;
  }

  __device__ void multiply_stage(int k, bool last) {
    const char* x = stage_at(k);
    const char* codes = x + a_.stage.codes;
    const int lane = thread() % 32;
    // The row and chunk that this lane addresses for ldmatrix.
    const int x_row = warp_row() * kWarpRows + lane % 16;
    const int x_chunk = lane / 16;
    // The column of the first fragment whose codes this lane converts, and its part of them.
    const int column = warp_first_column() + lane / 4, part = lane % 4;
    int group = 0;
    Word words[kMmaColumns];
#pragma unroll
    for (int step = 0; step < kStepsPerStage; ++step) {
      uint32_t b[kMmaColumns][2];
      if (has_zero_points() && fresh_) {
#pragma unroll
        for (int n = 0; n < kMmaColumns; ++n) offsets_[n] = offsets_at(k)[group * kTile.columns + column + n * 8];
      }
      fresh_ = false;
#pragma unroll
      for (int n = 0; n < kMmaColumns; ++n) {
        words[n].load(codes, a_.table, kTile.columns, column + n * 8, part, 2 * step);
        b[n][0] = Converter::convert(words[n].pair(2 * step), offsets_[n]);
        b[n][1] = Converter::convert(words[n].pair(2 * step + 1), offsets_[n]);
      }
#pragma unroll
      for (int m = 0; m < kMmaRows; ++m) {
        uint32_t a[4];
        ptx::ldmatrix_x4(a, x + swizzled_offset(x_row + m * 16, step * 2 + x_chunk));
#pragma unroll
        for (int n = 0; n < kMmaColumns; ++n) multiply(group_sums_[m][n], a, b[n], T{});
        if (has_minima()) {
          constexpr uint32_t kOnes = both(HalfBits<T>::kOne);
          multiply(x_sums_[m][0], a, {kOnes, kOnes}, T{});
        }
      }
      if (--steps_left_ == 0 || (last && step == kStepsPerStage - 1)) {
        add_group(k, group);
        ++group;
      }
    }
  }

  // Scales the sums of a group and adds them to the others.
  __device__ void add_group(int k, int group) {
    const int first = group * kTile.columns + warp_first_column() + thread() % 4 * 2;
#pragma unroll
    for (int n = 0; n < kMmaColumns; ++n) {
      const uint2 bits = ptx::ld_shared_64(scales_at(k) + first + n * 8);
      const float scales[2] = {float_from_bits(bits.x), float_from_bits(bits.y)};
      float minima[2] = {};
      if (has_minima()) {
        const uint2 minimum = ptx::ld_shared_64(offsets_at(k) + first + n * 8);
        minima[0] = float_from_bits(minimum.x);
        minima[1] = float_from_bits(minimum.y);
      }
#pragma unroll
      for (int m = 0; m < kMmaRows; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& sum = sums_[m][n][i];
          sum = fmaf(group_sums_[m][n][i], scales[i % 2], sum);
          if (has_minima()) sum = fmaf(x_sums_[m][0][i], -minima[i % 2], sum);
        }
      }
    }
    begin_group();
    steps_left_ = a_.group_steps;
  }

  const Arguments& a_;
  char* shared_;
  TileRows<T, kTile.rows, kThreads> x_;
  const char* packed_;
  int64_t first_row_;
  int packed_rows_;
  // Of the current group: whether it has no product yet, the steps that are left, and what is added to codes.
  bool fresh_;
  int steps_left_;
  uint32_t offsets_[kMmaColumns];
  float sums_[kMmaRows][kMmaColumns][4];
  float group_sums_[kMmaRows][kMmaColumns][4];
  float x_sums_[kMmaRows][1][4];  // of the rows of x in the group
};

// The tile is passed by index: nvcc's host code cannot name a kernel with a template argument of class type.
template <class T, Codes kCodes, int kBits, int kTileIndex>
MOE_KERNEL(gemm_mma_quantized_kernel,
           (gpu::kMmaQuantizedTiles[kTileIndex].threads(), gpu::kMmaQuantizedTiles[kTileIndex].blocks),
           const Arguments a) {
  Tile<T, kCodes, kBits, kTileIndex> tile(a);
  for_each_tile(a.gemm, [&](const RowTile& rows, int column_tile) { tile.compute(rows, column_tile); });
}

inline Level level_of(const ScaleLevel& level, int64_t first, int columns, const gpu::StagedLevel& staged) {
  const int groups = level.columns == 0 ? 1 : (columns + level.columns - 1) / level.columns;
  return {.first = first, .groups = groups, .steps = gpu::GroupSteps(level), .staged = staged};
}

inline Arguments arguments_of(const GemmArguments& gemm, const gpu::GemmPlan& plan) {
  const WeightFormat& format = gemm.format;
  const ScaleLevel &scales = format.scales, &super_scales = format.super_scales;
  const gpu::PackedMatrix& packed = gemm.packed;
  const gpu::QuantizedStage stage = gpu::quantized_stage(plan.tile, format);
  const gpu::ByteTable table = format.code == CodeType::table ? gpu::byte_table(format) : gpu::ByteTable{.unit = 1.0f};
  Arguments arguments{.gemm = gemm,
                      .stage = stage,
                      .scales = level_of(scales, packed.scales, gemm.columns, stage.scales),
                      .super_scales = level_of(super_scales, packed.super_scales, gemm.columns, stage.super_scales),
                      .zeros = level_of(scales, packed.zeros, gemm.columns, stage.zeros),
                      .super_zeros = level_of(super_scales, packed.super_zeros, gemm.columns, stage.super_zeros),
                      // A group of all columns ends with them.
                      .group_steps = scales.columns == 0 ? 1 << 30 : scales.columns / kGroupStep,
                      .table = {},
                      .unit = table.unit};
  memcpy(arguments.table, table.bytes, sizeof arguments.table);
  return arguments;
}

template <class T, Codes kCodes, int kBits, int kTileIndex>
Status launch_tile(const Arguments& arguments, const gpu::GemmPlan& plan, Stream stream) {
  return launch_gemm(gemm_mma_quantized_kernel<T, kCodes, kBits, kTileIndex>, arguments, plan, stream);
}

template <class T, Codes kCodes, int kBits, int... kIndices>
Status launch_all(const GemmArguments& gemm, const gpu::GemmPlan& plan, Stream stream,
                  std::integer_sequence<int, kIndices...>) {
  using Launcher = Status (*)(const Arguments& arguments, const gpu::GemmPlan& plan, Stream stream);
  constexpr Launcher kLaunchers[] = {launch_tile<T, kCodes, kBits, kIndices>...};
  return kLaunchers[plan.tile_index](arguments_of(gemm, plan), plan, stream);
}

template <class T, Codes kCodes, int kBits>
Status launch_codes(const GemmArguments& gemm, const gpu::GemmPlan& plan, Stream stream) {
  return launch_all<T, kCodes, kBits>(gemm, plan, stream,
                                      std::make_integer_sequence<int, std::size(gpu::kMmaQuantizedTiles)>{});
}

}  // namespace mma_quantized

template <class T>
Status launch_mma_quantized(const GemmArguments& a, const gpu::GemmPlan& plan, Stream stream) {
  using namespace mma_quantized;
  if (a.format.code == CodeType::table) return launch_codes<T, Codes::table, 4>(a, plan, stream);
  if (a.format.code == CodeType::e4m3) return launch_codes<T, Codes::e4m3, 8>(a, plan, stream);
  switch (a.format.bits) {
    case 2: return launch_codes<T, Codes::integers, 2>(a, plan, stream);
    case 3: return launch_codes<T, Codes::integers, 3>(a, plan, stream);
    case 4: return launch_codes<T, Codes::integers, 4>(a, plan, stream);
    case 5: return launch_codes<T, Codes::integers, 5>(a, plan, stream);
    case 6: return launch_codes<T, Codes::integers, 6>(a, plan, stream);
    default: return launch_codes<T, Codes::integers, 8>(a, plan, stream);
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
