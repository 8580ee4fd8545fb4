// Launches a tensor-core kernel for weights of quantised formats, Mma or Wgmma, in the instance for a format's codes.
#pragma once

#include <type_traits>

#include "gpu/gemm/functions.cuh"
#include "gpu/gemm/quantized.cuh"
#include "gpu/gemm/quantized_arguments.cuh"
#include "gpu/tile/dispatch.h"

namespace moe::MOE_GPU_NAMESPACE {

namespace quantized {

template <class Kernel, class T, Codes kCodes, int kBits, bool kSumsX = false>
Status launch_codes(const GemmArguments& gemm, const gpu::GemmPlan& plan, Stream stream) {
  return gpu::dispatch_index<Kernel::kTiles>(plan.tile_index, [&](auto index) {
    return launch_gemm(Kernel::template kernel<T, kCodes, kBits, kSumsX, decltype(index)::value>(),
                       arguments_of(gemm, plan), plan, stream);
  });
}

template <class Kernel, class T, int kBits>
Status launch_integers(const GemmArguments& gemm, const gpu::GemmPlan& plan, Stream stream) {
  constexpr bool kBytes = std::is_same_v<T, int8_t>;
  if constexpr (kBytes || gpu::may_have_minima(kBits)) {
    if (gpu::needs_sums_of_x(gemm.format, kBytes)) {
      return launch_codes<Kernel, T, Codes::integers, kBits, true>(gemm, plan, stream);
    }
  }
  return launch_codes<Kernel, T, Codes::integers, kBits>(gemm, plan, stream);
}

}  // namespace quantized

template <class Kernel, class T>
Status launch_quantized(const GemmArguments& a, const gpu::GemmPlan& plan, Stream stream) {
  using namespace quantized;
  if constexpr (std::is_same_v<T, fp8>) {
    return launch_codes<Kernel, T, Codes::e4m3, 8>(a, plan, stream);
  } else {
    if constexpr (!std::is_same_v<T, int8_t>) {
      if (gpu::is_e2m1(a.format)) return launch_codes<Kernel, T, Codes::e2m1, 4>(a, plan, stream);
      if (a.format.code == CodeType::e4m3) return launch_codes<Kernel, T, Codes::e4m3, 8>(a, plan, stream);
    }
    if (a.format.code == CodeType::table) {
      return a.format.bits == 3 ? launch_codes<Kernel, T, Codes::table, 3>(a, plan, stream)
                                : launch_codes<Kernel, T, Codes::table, 4>(a, plan, stream);
    }
    switch (a.format.bits) {
      case 2: return launch_integers<Kernel, T, 2>(a, plan, stream);
      case 3: return launch_integers<Kernel, T, 3>(a, plan, stream);
      case 4: return launch_integers<Kernel, T, 4>(a, plan, stream);
      case 5: return launch_integers<Kernel, T, 5>(a, plan, stream);
      case 6: return launch_integers<Kernel, T, 6>(a, plan, stream);
      default: return launch_integers<Kernel, T, 8>(a, plan, stream);
    }
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
