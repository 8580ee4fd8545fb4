// The ring of stages in shared memory that feeds the tensor-core kernels of quantised formats, filled by cp.async: rows
// of x, codes, and the values of their groups, all as they are in memory. Before a stage is multiplied, its groups'
// values are converted.
#pragma once

#include <type_traits>

#include "gpu/gemm/fragment_codes.cuh"
#include "gpu/gemm/mma_tile.cuh"
#include "gpu/gemm/quantized.cuh"
#include "gpu/gemm/quantized_arguments.cuh"

namespace moe::MOE_GPU_NAMESPACE::quantized {

using gpu::kGroupStep;
using gpu::kQuadBytes;
// Steps of groups in a stage.
constexpr int kStageSteps = gpu::kCodeStage / kGroupStep;
// Integers from -2^22 to 2^22 - 1 that are added to these bits leave those of 1.5 * 2^23 plus the integer.
constexpr int32_t kCountingBits = 0x4b400000;
constexpr float kCountingValue = 0x1.8p23f;

// Of tiles of kRows x kColumns. The values of kConverted stages' groups stand converted behind the ring. kSumsX:
// whether minima, or what bytes of codes lack, multiply the sums of x.
template <class T, Codes kCodes, int kBits, bool kSumsX, int kRows, int kColumns, int kThreads, int kStages,
          int kConverted>
class Stages {
 public:
  // Rows of x are codes in bytes; their sums are integers or not.
  static constexpr bool kBytes = sizeof(T) == 1, kIntegers = std::is_same_v<T, int8_t>;
  using GroupSum = std::conditional_t<kIntegers, int32_t, float>;
  using Converter = FragmentCodes<T, kCodes, kBits>;
  static constexpr int kXRowBytes = gpu::kCodeStage * static_cast<int>(sizeof(T));

  __device__ explicit Stages(const Arguments& a) : a_(a), shared_(ptx::dynamic_shared<char>()) {}

  __device__ void find(const RowTile& rows, int column_tile) {
    const GemmArguments& gemm = a_.gemm;
    x_.find(gemm, rows);
    packed_ = packed_matrix(gemm, rows.place);
    first_x_row_ = rows.first_row;
    x_rows_ = rows.rows;
    column_tile_ = column_tile;
    const int64_t left = gemm.packed.padded_rows - first_row();
    packed_rows_ = left < kColumns ? static_cast<int>(left) : kColumns;
    find_codes();
  }

  __device__ int count() const { return stages_of<T, kXRowBytes>(a_.gemm.columns); }

  // Rows of x of stage `k`, while it stands; its codes; and the scales of x.
  __device__ const char* x_at(int k) const { return stage_at(k); }
  __device__ const char* codes_at(int k) const { return stage_at(k) + a_.stage.codes; }
  __device__ float* x_scales_at(int k) const { return reinterpret_cast<float*>(stage_at(k) + a_.stage.x_scales); }
  // The converted scales of stage `k`, [groups][kColumns], and its offsets.
  __device__ float* scales_at(int k) const { return converted_at(k % kConverted); }
  __device__ uint32_t* offsets_at(int k) const { return reinterpret_cast<uint32_t*>(scales_at(k)) + values_in_stage(); }

  // Behind all of these.
  __device__ float* end() const { return converted_at(kConverted); }

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

  // What is added to codes that have no zero point of their own.
  __device__ uint32_t fixed_offset() const {
    return Converter::offset(kCodes == Codes::table ? 128 : zero_of_codes(a_.gemm.format));
  }
  // Codes of stage `k`'s chunks `chunk` and what is behind it, which `word` has, as the lane's part of a fragment.
  template <class Word>
  __device__ uint32_t fragment_of(const Word& word, int chunk, uint32_t offset) const {
    return kBytes ? Converter::convert(word.quad(chunk, a_.table), zero_of_codes(a_.gemm.format))
                  : Converter::convert(word.pair(chunk, a_.table), offset);
  }

  // Enqueues the copies of stage `k`. What lies outside x, the weights or their groups becomes zeros.
  __device__ void load(int k) {
    char* stage = stage_at(k);
    x_.load(a_.gemm, k, stage);
    load_codes(stage + a_.stage.codes);
    load_level(a_.scales, k, stage);
    if (a_.has_more_levels) {
      load_level(a_.super_scales, k, stage);
      load_level(a_.zeros, k, stage);
      load_level(a_.super_zeros, k, stage);
    }
    if (has_x_scales()) load_x_scales(k);
  }

  // Converts the values of stage `k`'s groups.
  __device__ void convert_groups(int k) const {
    constexpr int kRuns = kColumns / kGroupRun;
    const char* stage = stage_at(k);
    const int first_step = k * kStageSteps;
    for (int run = thread_for(k); run < a_.scales.staged.groups * kRuns; run += kThreads) {
      const int group = run / kRuns, column = run % kRuns * kGroupRun;
      // A step of the group in this stage.
      int step = (a_.scales.steps.at(first_step) + group) * a_.group_steps;
      step = step < first_step ? first_step : step < first_step + kStageSteps ? step : first_step;
      const int super_group = a_.super_scales.steps.at(step) - a_.super_scales.steps.at(first_step);
      const auto load = [&](const Level& level, int level_group, uint32_t(&values)[kGroupRun]) {
        if (level.staged.groups == 0) return;
        load_values(stage + level.staged.place, level.staged.bytes, level_group * kColumns + column, values);
      };
      GroupValues<kGroupRun> values = {};
      load(a_.scales, group, values.scale);
      load(a_.super_scales, super_group, values.super_scale);
      load(a_.zeros, group, values.zero);
      load(a_.super_zeros, super_group, values.super_zero);
      const GroupScale<kGroupRun> converted = scale_of_group(a_.gemm.format, values);
      const int place = group * kColumns + column;
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

 private:
  // Quads that a stage has of a column's codes, and how many of them a thread copies.
  static constexpr int kQuads = gpu::stage_bytes(kBits) / kQuadBytes;
  static constexpr int kQuadCopies = (kQuads * kColumns + kThreads - 1) / kThreads;
  static constexpr bool kHasHalfQuads = gpu::stage_bytes(kBits) % kQuadBytes != 0;
  static_assert(kThreads % kColumns == 0, "what a thread copies is in the same column of several quads");
  // Neighbouring columns whose groups a thread converts.
  static constexpr int kGroupRun = 4;

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  // For work that the first threads do: for each stage they begin with another warp, so that no scheduler has more of
  // it.
  __device__ static int thread_for(int k) {
    int first = k * 32;
    asm volatile("" : "+r"(first));  // else every use is computed ahead, and spills
    return (thread() + first) % kThreads;
  }
  __device__ int64_t first_row() const { return static_cast<int64_t>(column_tile_) * kColumns; }
  __device__ int64_t quads_bytes() const { return a_.gemm.packed.padded_rows * kQuadBytes; }
  __device__ char* stage_at(int k) const { return shared_ + k % kStages * a_.stage.bytes; }
  __device__ float* converted_at(int place) const {
    return reinterpret_cast<float*>(shared_ + kStages * a_.stage.bytes) + place * 2 * values_in_stage();
  }
  __device__ int values_in_stage() const { return a_.scales.staged.groups * kColumns; }

  __device__ void load_x_scales(int k) const {
    const GemmInput& input = a_.gemm.input;
    const float* source = input.scales + a_.scales.steps.at(k * kStageSteps) * input.rows + first_x_row_;
    for (int row = thread_for(k); row < kRows; row += kThreads) {
      const bool exists = row < x_rows_;
      ptx::cp_async_4_zfill(x_scales_at(k) + row, exists ? source + row : source, exists ? 4 : 0);
    }
  }

  // Where this thread's copies of codes come from. Columns behind the last, which nobody stores, have codes of others.
  __device__ void find_codes() {
    int copier = thread();
    // Computed anew for every tile: what would outlive a tile spills in the largest kernels.
    asm volatile("" : "+r"(copier));
    const auto find = [&](int piece, int row_bytes, int place) {
      const int last = packed_rows_ * row_bytes - kQuadBytes;
      return packed_ + piece * quads_bytes() + first_row() * row_bytes + (place < last ? place : last);
    };
    quads_ = find(copier / kColumns, kQuadBytes, copier % kColumns * kQuadBytes);
    if constexpr (kHasHalfQuads) half_quads_ = find(kQuads, kQuadBytes / 2, copier * kQuadBytes);
  }

  // Stages are loaded in order.
  __device__ void load_codes(char* codes) {
#pragma unroll
    for (int i = 0; i < kQuadCopies; ++i) {
      const int chunk = i * kThreads + thread();
      if (kQuads * kColumns % kThreads != 0 && chunk >= kQuads * kColumns) continue;
      ptx::cp_async_16(codes + chunk * kQuadBytes, quads_ + i * (kThreads / kColumns) * quads_bytes());
    }
    quads_ += a_.gemm.packed.pitch;
    if constexpr (kHasHalfQuads) {
      if (thread() < kColumns / 2) ptx::cp_async_16(codes + (kQuads * kColumns + thread()) * kQuadBytes, half_quads_);
      half_quads_ += a_.gemm.packed.pitch;
    }
  }

  __device__ void load_level(const Level& level, int k, char* stage) const {
    for (int chunk = thread_for(k); chunk < level.chunks; chunk += kThreads) {
      const int group = level.steps.at(k * kStageSteps) + (chunk >> level.shift);
      const int place = (chunk & ((1 << level.shift) - 1)) * kQuadBytes;
      const bool exists = group < level.groups && place < packed_rows_ * level.staged.bytes;
      const char* source = packed_ + level.first;
      if (exists) source += group * level.pitch + first_row() * level.staged.bytes + place;
      ptx::cp_async_16_or_zeros(stage + level.staged.place + chunk * kQuadBytes, source, exists);
    }
  }

  __device__ static uint4 to_quad(const uint32_t (&bits)[kGroupRun]) { return {bits[0], bits[1], bits[2], bits[3]}; }

  const Arguments& a_;
  char* shared_;
  TileRows<T, kRows, kThreads, kXRowBytes> x_;
  int64_t first_x_row_;
  int x_rows_;
  const char* packed_;
  int column_tile_;
  int packed_rows_;
  // Of the next stage to load: this thread's first quad, and its half quads.
  const char *quads_, *half_quads_;
};

}  // namespace moe::MOE_GPU_NAMESPACE::quantized
