// Parts of the tensor-core kernels: rows of x on their way to shared memory, products, accumulators on their way out.
#pragma once

#include <ptx/cp_async.cuh>
#include <ptx/ld_st.cuh>
#include <ptx/mma.cuh>

#include "gpu/gemm/gemm_arguments.cuh"
#include "gpu/tile/swizzle.cuh"

namespace moe::MOE_GPU_NAMESPACE {

// Bytes of K per mma, in two chunks.
constexpr int kStepBytes = 32;
constexpr int kStepsPerStage = kTileRowBytes / kStepBytes;

__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bf16) {
  ptx::mma_m16n8k16_bf16(d, a, b);
}
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], f16) {
  ptx::mma_m16n8k16_f16(d, a, b);
}
__device__ __forceinline__ void multiply(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int8_t) {
  ptx::mma_m16n8k32_s8(d, a, b);
}
__device__ __forceinline__ void multiply(int32_t (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1], int8_t) {
  ptx::mma_m16n8k16_s8(d, a, b);
}
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], fp8) {
  ptx::mma_m16n8k32_e4m3(d, a, b);
}
// Of half the depth: the other half is zeros.
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1], fp8) {
  const uint32_t whole_a[4] = {a[0], a[1], 0, 0}, whole_b[2] = {b[0], 0};
  ptx::mma_m16n8k32_e4m3(d, whole_a, whole_b);
}
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], float) {
  uint32_t rounded_a[4], rounded_b[2];
#pragma unroll
  for (int i = 0; i < 4; ++i) rounded_a[i] = ptx::cvt_rna_tf32(float_from_bits(a[i]));
#pragma unroll
  for (int i = 0; i < 2; ++i) rounded_b[i] = ptx::cvt_rna_tf32(float_from_bits(b[i]));
  ptx::mma_m16n8k8_tf32(d, rounded_a, rounded_b);
}

// How a block loads one operand's part of a stage, `kRows` rows: each thread copies 16-byte chunks of one column.
template <int kRows, int kThreads, int kRowBytes = kTileRowBytes>
struct StageLoad {
  static constexpr int kRowChunks = kRowBytes / kChunkBytes;
  static constexpr int kRowStep = kThreads / kRowChunks;
  static constexpr int kChunks = (kRows + kRowStep - 1) / kRowStep;
  static_assert(kRows % kRowStep == 0 || kChunks == 1, "every thread that loads must load equally many chunks");

  __device__ static int chunk() { return static_cast<int>(threadIdx.x) % kRowChunks; }
  __device__ static int row(int i) { return static_cast<int>(threadIdx.x) / kRowChunks + i * kRowStep; }
  // Whether this thread loads at all.
  __device__ static bool loads() { return kRows % kRowStep == 0 || row(0) < kRows; }
};

// How many stages of kRowBytes there are in a row of T.
template <class T, int kRowBytes = kTileRowBytes>
__device__ __forceinline__ int stages_of(int columns) {
  return static_cast<int>((static_cast<int64_t>(columns) * static_cast<int64_t>(sizeof(T)) + kRowBytes - 1) /
                          kRowBytes);
}

// The rows of x of one tile, in stages of kRowBytes.
template <class T, int kRows, int kThreads, int kRowBytes = kTileRowBytes>
class TileRows {
 public:
  __device__ void find(const GemmArguments& a, const RowTile& rows) {
    exist_ = 0;
    // All indices are on their way before the first is checked.
    int64_t indices[Load::kChunks];
#pragma unroll
    for (int i = 0; i < Load::kChunks; ++i) {
      const int row = Load::row(i);
      indices[i] = row < rows.rows ? source_index(a.input, rows.first_row + row) : -1;
    }
#pragma unroll
    for (int i = 0; i < Load::kChunks; ++i) {
      const int row = Load::row(i);
      const T* source = row < rows.rows ? source_row<T>(a, rows.first_row + row, indices[i]) : nullptr;
      if (source != nullptr) exist_ |= 1u << i;
      rows_[i] = static_cast<const char*>(source != nullptr ? source : a.weight);
    }
  }

  // Enqueues the copies of stage `k` of K. What lies outside x becomes zeros.
  __device__ void load(const GemmArguments& a, int k, char* stage) const {
    if (!Load::loads()) return;
    constexpr int kSize = static_cast<int>(sizeof(T)), kChunkElements = kChunkBytes / kSize;
    const int64_t offset = static_cast<int64_t>(k) * kRowBytes + Load::chunk() * kChunkBytes;
    uint32_t exist = exist_;
    // Taken apart at every stage: a register for each of its bits would spill in the largest kernels.
    asm volatile("" : "+r"(exist));
    const auto load_rows = [&](auto&& copy) {
#pragma unroll
      for (int i = 0; i < Load::kChunks; ++i) {
        copy(stage + swizzled_offset<kRowBytes>(Load::row(i), Load::chunk()), rows_[i] + offset, (exist >> i & 1) != 0);
      }
    };
    const int left = a.columns - k * (kRowBytes / kSize) - Load::chunk() * kChunkElements;
    // Bytes are codes in an order of their own, padded with zeros to whole chunks. Other stages but the last are whole.
    // For one chunk, two ways to copy it would take more instructions than the general one.
    const bool whole = Load::kChunks > 1 && (k + 1) * (kRowBytes / kSize) <= a.columns;
    if (kSize == 1 || whole) {
      load_rows([&](char* to, const char* from, bool exists) {
        ptx::cp_async_16_or_zeros(to, from, exists && (kSize > 1 || left > 0));
      });
    } else {
      const int bytes = left >= kChunkElements ? kChunkBytes : left > 0 ? left * kSize : 0;
      load_rows([&](char* to, const char* from, bool exists) { ptx::cp_async_16_zfill(to, from, exists ? bytes : 0); });
    }
  }

 private:
  using Load = StageLoad<kRows, kThreads, kRowBytes>;

  // Of those that do not exist, nothing is read.
  uint32_t exist_;
  const char* rows_[Load::kChunks];
};

// Both operands of one tile, in a ring of stages: rows of x, then packed rows of the weight.
template <class T, int kRows, int kColumns, int kThreads, int kStages>
class TileStages {
 public:
  static constexpr int kWeightOffset = kRows * kTileRowBytes;

  __device__ explicit TileStages(char* ring) : ring_(ring) {}

  __device__ void find(const GemmArguments& a, const RowTile& rows, int column_tile) {
    x_.find(a, rows);
    const int64_t first_row = static_cast<int64_t>(column_tile) * kColumns;
    const int64_t left = a.packed.rows - first_row;
    weight_rows_ = left < kColumns ? static_cast<int>(left) : kColumns;
    weight_ = packed_matrix(a, rows.place) + first_row * a.packed.pitch;
  }

  // Enqueues the copies of stage `k` of K. What lies outside x or the weights becomes zeros; packed rows are padded to
  // whole stages.
  __device__ void load(const GemmArguments& a, int k) const {
    char* stage = at(k);
    x_.load(a, k, stage);
    const int64_t offset = static_cast<int64_t>(k) * kTileRowBytes + LoadWeight::chunk() * kChunkBytes;
#pragma unroll
    for (int i = 0; i < LoadWeight::kChunks; ++i) {
      const int row = LoadWeight::row(i);
      const bool exists = row < weight_rows_;
      const char* source = weight_ + (exists ? row * a.packed.pitch : 0) + offset;
      ptx::cp_async_16_or_zeros(stage + kWeightOffset + swizzled_offset(row, LoadWeight::chunk()), source, exists);
    }
  }

  // Where stage `k` of K stands, while it does.
  __device__ char* at(int k) const { return ring_ + k % kStages * (kRows + kColumns) * kTileRowBytes; }

 private:
  using LoadWeight = StageLoad<kColumns, kThreads>;

  char* ring_;
  TileRows<T, kRows, kThreads> x_;
  const char* weight_;
  int weight_rows_;
};

template <class Sum, int kMmaRows, int kMmaColumns>
__device__ __forceinline__ void clear(Sum (&sums)[kMmaRows][kMmaColumns][4], Sum to = 0) {
#pragma unroll
  for (int m = 0; m < kMmaRows; ++m) {
#pragma unroll
    for (int n = 0; n < kMmaColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] = to;
    }
  }
}

// Writes a warp's accumulators to shared memory for finish_staged, from this row and column on.
template <int kTileColumns, int kMmaRows, int kMmaColumns>
__device__ __forceinline__ void stage_fragments(float* staged, int first_row, int first_column,
                                                const float (&sums)[kMmaRows][kMmaColumns][4]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int m = 0; m < kMmaRows; ++m) {
#pragma unroll
    for (int n = 0; n < kMmaColumns; ++n) {
      const int row = first_row + m * 16 + lane / 4;
      const int column = first_column + n * 8 + lane % 4 * 2;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        ptx::st_shared_64(staged + (row + half * 8) * gpu::staged_pitch(kTileColumns) + column,
                          uint2{float_bits(sums[m][n][half * 2]), float_bits(sums[m][n][half * 2 + 1])});
      }
    }
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
