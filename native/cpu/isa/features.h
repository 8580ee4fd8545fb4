// What instruction sets need beyond the processor's base.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

namespace moe::cpu {

// In the order of features.cc's list.
#if defined(MOE_X86)
enum Feature {
  kAvx2,
  kBmi,
  kFma,
  kF16c,
  kAvxVnni,
  kAvx512F,
  kAvx512Bw,
  kAvx512Dq,
  kAvx512Vl,
  kAvx512Vnni,
  kAvx512Vbmi,
  kAvx512Bf16,
  kFeatureCount
};
#elif defined(MOE_AARCH64)
enum Feature { kDotProd, kFeatureCount };
#endif

#if defined(MOE_X86) || defined(MOE_AARCH64)
using Features = uint32_t;  // a bit for each

constexpr Features with(Features some, std::initializer_list<Feature> others) {
  for (const Feature feature : others) some |= Features{1} << feature;
  return some;
}

#if defined(MOE_X86)
constexpr Features kForAvx2 = with(0, {kAvx2, kBmi, kFma, kF16c});
constexpr Features kForAvx2Vnni = with(kForAvx2, {kAvxVnni});
constexpr Features kForAvx512 = with(kForAvx2, {kAvx512F, kAvx512Bw, kAvx512Dq, kAvx512Vl});
constexpr Features kForAvx512Vbmi = with(kForAvx512, {kAvx512Vbmi});
constexpr Features kForAvx512Vnni = with(kForAvx512, {kAvx512Vnni});
constexpr Features kForAvx512Bf16 = with(kForAvx512Vnni, {kAvx512Vbmi, kAvx512Bf16});
#else
constexpr Features kForDotProducts = with(0, {kDotProd});
#endif

// Which of them the CPU lacks, in words; empty: none.
std::string lacking(Features features);
#endif

}  // namespace moe::cpu
