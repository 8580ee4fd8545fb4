// What instruction sets need beyond the processor's base.
#pragma once

#include <string>

namespace moe::cpu {

// In the order of a list in which each instruction set needs all features up to its own: that many of them.
#if defined(MOE_X86)
enum FeatureCount { kForAvx2 = 4, kForAvx512 = 8, kForVnni, kForBf16 = kForVnni + 2, kFeatureCount = kForBf16 };
#elif defined(MOE_AARCH64)
enum FeatureCount { kForDotProducts = 1, kFeatureCount = kForDotProducts };
#endif

#if defined(MOE_X86) || defined(MOE_AARCH64)
// Which of the first so many the CPU lacks, in words; empty: none.
std::string lacking(FeatureCount count);
#endif

}  // namespace moe::cpu
