// An instruction set of builds for tests: AVX2 with a model of AVX-VNNI.
#pragma once

#include <span>

#include "cpu/isa/kernels.h"

namespace moe::cpu::avx2_vnni_model {

extern const std::span<const GemmKernel> kGemm;
extern const std::span<const GemmKernel> kDigitGemm;
extern const PeakLoop kPeak;

}  // namespace moe::cpu::avx2_vnni_model
