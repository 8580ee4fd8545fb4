// Packs rows of x into the tiles that one product reads.
#pragma once

#include <algorithm>

#include "cpu/gemm/product.h"

namespace moe::cpu {

// Memory in which each thread changes a row before it is packed.
struct RowLines {
  int64_t floats = 0;  // of a thread
  float* data = nullptr;

  void take(Arena& arena, int64_t threads, int64_t floats_of_each) {
    floats = floats_of_each;
    data = arena.take<float>(threads * floats);
  }
  float* of(int thread) const { return data + thread * floats; }
};

class RowPacker {
 public:
  // Rows of `columns` elements of this dtype.
  RowPacker(const Kernels& kernels, const GemmKernel& gemm, const CpuPackedExperts& weights, DType dtype)
      : kernels_(kernels), gemm_(gemm), weights_(weights), dtype_(dtype), columns_(weights.weights().columns) {}

  // Floats that a thread needs to change a row before it is packed.
  static int64_t line_floats(int64_t columns) { return 2 * columns; }

  // Packs one row as row `r` of its tile at `target`, times a weight unless that is null. `line` has line_floats() if
  // there is a weight or the product changes its inputs. Of a row of codes, the tile's `scales` receive its own, times
  // the weight.
  void pack(const RowTile& tile, int32_t r, const char* x, const float* weight, char* target, float* line,
            float* scales) const {
    const int64_t padded_k = packed_row_k(gemm_, weights_.layout());
    const ExpertInputs& inputs = weights_.inputs();
    const TokenScheme& tokens = inputs.tokens();
    scales += r * inputs.scales_per_row();
    if (weight == nullptr && inputs.as_they_are()) {
      return kernels_.pack_row(gemm_.arithmetic, dtype_, x, columns_, padded_k, target, r, tile.rows);
    }
    const float* values = floats_of(x, line);
    if (!inputs.absent()) {
      inputs.apply(tile.expert, values, line + columns_);
      values = line += columns_;
    }
    if (tokens.coded()) {
      kernels_.round_tokens(tokens, values, columns_, line, scales);
    } else if (values != line) {
      std::copy_n(values, columns_, line);
    }
    if (weight != nullptr) {
      float* weighted = tokens.coded() ? scales : line;
      const int64_t count = tokens.coded() ? inputs.scales_per_row() : columns_;
      for (int64_t i = 0; i < count; ++i) weighted[i] *= *weight;
    }
    kernels_.pack_row(gemm_.arithmetic, DType::f32, line, columns_, padded_k, target, r, tile.rows);
  }

  // pack() in two steps, for a row that several experts read alike: codes are exact in bfloat16.
  void round(const char* x, bf16* codes, float* line, float* scales) const {
    kernels_.round_tokens(weights_.inputs().tokens(), floats_of(x, line), columns_, line, scales);
    kernels_.from_f32(DType::bf16, line, columns_, codes);
  }
  void pack_rounded(const RowTile& tile, int32_t r, const bf16* codes, const float* code_scales, const float* weight,
                    char* target, float* scales) const {
    const int64_t count = weights_.inputs().scales_per_row();
    scales += r * count;
    for (int64_t i = 0; i < count; ++i) scales[i] = weight == nullptr ? code_scales[i] : code_scales[i] * *weight;
    kernels_.pack_row(gemm_.arithmetic, DType::bf16, codes, columns_, packed_row_k(gemm_, weights_.layout()), target, r,
                      tile.rows);
  }

 private:
  // The row as float32, in `line` if it is not.
  const float* floats_of(const char* x, float* line) const {
    if (dtype_ == DType::f32) return reinterpret_cast<const float*>(x);
    kernels_.to_f32(dtype_, x, columns_, line);
    return line;
  }

  const Kernels& kernels_;
  const GemmKernel& gemm_;
  const CpuPackedExperts& weights_;
  DType dtype_;
  int64_t columns_;
};

}  // namespace moe::cpu
