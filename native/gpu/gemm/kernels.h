// The table of grouped GEMM kernels, and the choice among them.
#pragma once

#include <span>
#include <vector>

#include "core/kernel_description.h"
#include "core/status.h"
#include "gpu/gemm/kernel.h"
#include "gpu/gemm/list.h"

namespace moe::gpu {

#define MOE_DECLARE_ROW(NAME) extern const GemmKernel NAME;
MOE_GEMM_KERNELS(MOE_DECLARE_ROW)
#undef MOE_DECLARE_ROW

// In order of preference.
std::span<const GemmKernel* const> gemm_kernels();

// What decides the choice of a kernel. Never the number of tokens, so a token's results are the same in every batch.
struct GemmChoice {
  RowKind tokens;
  const WeightFormat* format;
  AllowedRoundings allowed = {};
};

// The best kernel for tokens as they are and weights of a format; this GPU keeps them in its layout. Null: there is
// none.
const GemmKernel* best_gemm_kernel(const WeightFormat& format, const DeviceTraits& traits);

// The best kernel for these tokens that reads that layout. Null: there is none.
const GemmKernel* choose_gemm_kernel(const GemmChoice& choice, const DeviceTraits& traits);

// The same, but UNSUPPORTED_DTYPE if there is none.
Status find_best_gemm_kernel(const WeightFormat& format, const DeviceTraits& traits, const GemmKernel** kernel);
Status find_gemm_kernel(const GemmChoice& choice, const DeviceTraits& traits, const GemmKernel** kernel);

// The table in words, for a device of this name. Without traits there is no such GPU here, and no row is chosen.
std::vector<KernelDescription> describe_kernels(const char* device, const DeviceTraits* traits);

}  // namespace moe::gpu
