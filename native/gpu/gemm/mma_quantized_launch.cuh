// Launches the tensor-core kernel for weights of quantised formats, in the instance for a format's codes.
#pragma once

#include <iterator>
#include <type_traits>

#include "gpu/gemm/functions.cuh"
#include "gpu/gemm/mma_quantized.cuh"
#include "gpu/tile/dispatch.h"

namespace moe::MOE_GPU_NAMESPACE {

namespace mma_quantized {

// The tile is passed by index: nvcc's host code cannot name a kernel with a template argument of class type.
template <class T, Codes kCodes, int kBits, bool kSumsX, int kTileIndex>
MOE_KERNEL(gemm_mma_quantized_kernel,
           (gpu::kMmaQuantizedTiles[kTileIndex].threads(), gpu::kMmaQuantizedTiles[kTileIndex].blocks),
           const Arguments a) {
  Tile<T, kCodes, kBits, kSumsX, kTileIndex> tile(a);
  for_each_tile(a.gemm, [&](const RowTile& rows, int column_tile) { tile.compute(rows, column_tile); });
}

template <class T, Codes kCodes, int kBits, bool kSumsX = false>
Status launch_codes(const GemmArguments& gemm, const gpu::GemmPlan& plan, Stream stream) {
  return gpu::dispatch_index<std::size(gpu::kMmaQuantizedTiles)>(plan.tile_index, [&](auto index) {
    return launch_gemm(gemm_mma_quantized_kernel<T, kCodes, kBits, kSumsX, decltype(index)::value>,
                       arguments_of(gemm, plan), plan, stream);
  });
}

template <class T, int kBits>
Status launch_integers(const GemmArguments& gemm, const gpu::GemmPlan& plan, Stream stream) {
  constexpr bool kBytes = std::is_same_v<T, int8_t>;
  if constexpr (kBytes || gpu::may_have_minima(kBits)) {
    // Unsigned bytes lack their zero points, which would not leave them bytes.
    const WeightFormat& format = gemm.format;
    const bool sums_x = format.offset == Offset::minimum || (kBytes && format.code == CodeType::unsigned_integer);
    if (sums_x) return launch_codes<T, Codes::integers, kBits, true>(gemm, plan, stream);
  }
  return launch_codes<T, Codes::integers, kBits>(gemm, plan, stream);
}

}  // namespace mma_quantized

template <class T>
Status launch_mma_quantized(const GemmArguments& a, const gpu::GemmPlan& plan, Stream stream) {
  using namespace mma_quantized;
  if constexpr (std::is_same_v<T, fp8>) {
    return launch_codes<T, Codes::e4m3, 8>(a, plan, stream);
  } else {
    if constexpr (!std::is_same_v<T, int8_t>) {
      if (gpu::is_e2m1(a.format)) return launch_codes<T, Codes::e2m1, 4>(a, plan, stream);
      if (a.format.code == CodeType::e4m3) return launch_codes<T, Codes::e4m3, 8>(a, plan, stream);
    }
    if (a.format.code == CodeType::table) {
      return a.format.bits == 3 ? launch_codes<T, Codes::table, 3>(a, plan, stream)
                                : launch_codes<T, Codes::table, 4>(a, plan, stream);
    }
    switch (a.format.bits) {
      case 2: return launch_integers<T, 2>(a, plan, stream);
      case 3: return launch_integers<T, 3>(a, plan, stream);
      case 4: return launch_integers<T, 4>(a, plan, stream);
      case 5: return launch_integers<T, 5>(a, plan, stream);
      case 6: return launch_integers<T, 6>(a, plan, stream);
      default: return launch_integers<T, 8>(a, plan, stream);
    }
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
