// The table of matrix products: each instruction set has rows, one for every way in which it multiplies tokens by
// weights of a format. A new kernel is a new row.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "cpu/gemm/panel_format.h"

namespace moe::cpu {

// Most rows of x that one tile of a matrix product works on.
constexpr int kMaxTileRows = 14;

// What tokens are rounded to and how they are packed. `bf16_pairs` has bfloat16 pairs of consecutive k.
enum class Arithmetic : uint8_t { f32, bf16_pairs };

// Elements of consecutive k that are packed next to each other.
constexpr int k_group(Arithmetic arithmetic) { return arithmetic == Arithmetic::bf16_pairs ? 2 : 1; }
constexpr int element_bytes(Arithmetic arithmetic) { return arithmetic == Arithmetic::bf16_pairs ? 2 : 4; }

// c[r * columns + j] (+)= sum over k of x[k][r] * w[k][j], k ascending for every row count, so that a row's result does
// not depend on the rows beside it.
//   k: multiple of the panels' step. x: packed tile (see pack_row). w: packed panel (see panel_format.h).
//   prefetch: first of the `prefetch_lines` cache lines that this call should bring to the cache, spread over its work.
using TileFunction = void (*)(int64_t k, const void* x, const void* w, float* c, bool accumulate, const char* prefetch,
                              int64_t prefetch_lines);

// Dtypes of tokens, one bit each.
using TokenDTypes = uint8_t;
constexpr TokenDTypes tokens_of(DType dtype) { return static_cast<TokenDTypes>(1u << static_cast<int>(dtype)); }
constexpr TokenDTypes kAllTokens = tokens_of(DType::f32) | tokens_of(DType::f16) | tokens_of(DType::bf16);

struct GemmKernel {
  const char* name = nullptr;
  TokenDTypes tokens = 0;                                // that it takes
  Arithmetic arithmetic = Arithmetic::f32;               // how it reads them
  const WeightFormat* format = nullptr;                  // of the weights, as stored
  const PanelFormat* panels = nullptr;                   // how they are packed: once, so the same for all tokens
  const char* numbers = nullptr;                         // what its results are, in words
  int max_rows = 0;                                      // of a tile
  std::array<TileFunction, kMaxTileRows + 1> tile = {};  // by row count; 0 is unused
};

inline constexpr const char* kFloatNumbers = "tokens as float32, float32 sums";

// A table's rows, one list after another.
template <size_t... counts>
constexpr auto joined(const GemmKernel (&... lists)[counts]) {
  std::array<GemmKernel, (counts + ...)> all{};
  size_t next = 0;
  const auto append = [&](std::span<const GemmKernel> list) {
    for (const GemmKernel& row : list) all[next++] = row;
  };
  (append(lists), ...);
  return all;
}

// The row for tokens of a dtype and weights of a format: the first that takes both, or null. It never depends on how
// many tokens there are, so that a token's results do not either.
constexpr const GemmKernel* choose_gemm(std::span<const GemmKernel> rows, DType tokens, const WeightFormat& format) {
  for (const GemmKernel& row : rows) {
    if (row.format == &format && (row.tokens & tokens_of(tokens)) != 0) return &row;
  }
  return nullptr;
}

}  // namespace moe::cpu
