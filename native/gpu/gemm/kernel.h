// A row of the grouped GEMM table: what a kernel accepts, needs and computes with. Pure data and functions, so that
// every choice can be tested without a GPU. gemm/functions.cuh has what is launched.
#pragma once

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"
#include "core/formats/token_format.h"
#include "core/formats/weight_format.h"
#include "core/rounding.h"
#include "gpu/gemm/weight_layout.h"
#include "gpu/runtime/device_traits.h"

namespace moe::gpu {

struct GemmPlan;
struct GemmProblem;

// Rows and columns of the product that a block computes at once, how its warps divide them, the stages of its ring in
// shared memory, and the blocks that must fit into a multiprocessor's registers.
struct GemmTile {
  int rows, columns;
  int warps_rows, warps_columns;
  int stages;
  int blocks;

  MOE_HOST_DEVICE constexpr int threads() const { return 32 * warps_rows * warps_columns; }
};

// Compute capabilities, 80 for 8.0. Later ones lack the instructions of an architecture-specific target such as sm_90a.
struct ComputeCapabilities {
  int first = 80;
  int last = INT_MAX;

  constexpr bool include(int capability) const { return first <= capability && capability <= last; }
};
inline constexpr ComputeCapabilities kAllCapabilities[] = {{}};
inline constexpr ComputeCapabilities kHopper[] = {{90, 90}};

constexpr bool run_on(std::span<const ComputeCapabilities> ranges, int capability) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const auto& each) { return each.include(capability); });
}
// Whether kernels of these capabilities run on a GPU, which may have those of an earlier one.
constexpr bool run_on(std::span<const ComputeCapabilities> ranges, const DeviceTraits& traits) {
  return run_on(ranges, traits.compute_capability) &&
         (traits.own_capability == 0 || run_on(ranges, traits.own_capability));
}

// The weight formats that a kernel reads: one, or all that have certain properties.
struct WeightFormats {
  const char* words;
  bool (*include)(const WeightFormat& format);
  const WeightFormat* example;
};

template <const WeightFormat& kFormat>
inline constexpr WeightFormats kOnly{
    .words = kFormat.name,
    .include = [](const WeightFormat& format) { return same_format(format, kFormat); },
    .example = &kFormat,
};

// Rows of x as a product has them: tokens of a dtype; or codes, and the dtype that kernels of other tokens take them
// in.
struct RowKind {
  constexpr RowKind(DType tokens, TokenScheme rounded = {}) : dtype(tokens), codes(rounded) {}
  bool operator==(const RowKind&) const = default;

  DType dtype;
  TokenScheme codes;
};

struct GemmKernel {
  const char* name;
  std::span<const DType> tokens = {};     // accepted dtypes,
  TokenFormat codes = TokenFormat::none;  // or the only codes that it accepts; fp8: whatever their scales are
  // The weights with which it takes codes whose scales are for groups of columns; null: none.
  bool (*takes_x_scales)(const WeightFormat& format) = nullptr;
  DType x;  // what they are stored as, without loss, before they are multiplied; u8: a byte for each code
  WeightFormats formats;
  const char* numbers;               // in words, how exact its results are
  Rounding rounds = Rounding::none;  // only if the caller allows it
  std::span<const ComputeCapabilities> runs_on = kAllCapabilities;
  const WeightLayout* layout;
  std::span<const GemmTile> tiles;  // lowest first
  size_t (*shared_bytes)(const GemmTile& tile, const WeightFormat& format);
  GemmPlan (*plan)(const GemmKernel& kernel, const GemmProblem& problem, const DeviceTraits& traits);

  constexpr bool takes_codes() const { return codes != TokenFormat::none; }
};

}  // namespace moe::gpu
