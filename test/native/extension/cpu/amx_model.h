// AMX's rows of the table of products on a model of tile registers, for builds for tests: beside AVX-512's vectors and
// beside portable ones.
#pragma once

#include <span>

#include "cpu/isa/kernels.h"

namespace moe::cpu::amx_model_avx512 {
extern const std::span<const GemmKernel> kGemm;
extern const PeakLoop kBf16Peak, kInt8Peak;
}  // namespace moe::cpu::amx_model_avx512

namespace moe::cpu::amx_model_portable {
extern const std::span<const GemmKernel> kGemm;
extern const PeakLoop kBf16Peak, kInt8Peak;
}  // namespace moe::cpu::amx_model_portable
