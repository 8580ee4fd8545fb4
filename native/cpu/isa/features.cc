#include "cpu/isa/features.h"

#include <array>

#if defined(MOE_X86)
#include <cpuid.h>
#elif defined(MOE_AARCH64) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(MOE_AARCH64) && defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#endif

namespace moe::cpu {

#if defined(MOE_X86) || defined(MOE_AARCH64)
namespace {

struct Description {
  const char* name;
  bool present;
};

#if defined(MOE_X86)
// A bit of what CPUID says, for features that not every compiler knows by name.
enum Register { kEax, kEbx, kEcx, kEdx };
bool cpuid(unsigned leaf, unsigned subleaf, Register place, int bit) {
  unsigned registers[4];
  if (static_cast<unsigned>(__get_cpuid_max(0, nullptr)) < leaf) return false;
  if (subleaf != 0) {
    __cpuid_count(leaf, 0, registers[kEax], registers[kEbx], registers[kEcx], registers[kEdx]);
    if (registers[kEax] < subleaf) return false;
  }
  __cpuid_count(leaf, subleaf, registers[kEax], registers[kEbx], registers[kEcx], registers[kEdx]);
  return (registers[place] >> bit & 1) != 0;
}

std::array<Description, kFeatureCount> features() {
  __builtin_cpu_init();
  // Includes that the system saves the registers.
  const bool avx2 = __builtin_cpu_supports("avx2") != 0;
  return {{{"AVX2", avx2},
           {"BMI", __builtin_cpu_supports("bmi") != 0},
           {"FMA", __builtin_cpu_supports("fma") != 0},
           {"F16C", avx2 && cpuid(1, 0, kEcx, 29)},
           {"AVX-VNNI", avx2 && cpuid(7, 1, kEax, 4)},
           {"AVX-512 F", __builtin_cpu_supports("avx512f") != 0},
           {"AVX-512 BW", __builtin_cpu_supports("avx512bw") != 0},
           {"AVX-512 DQ", __builtin_cpu_supports("avx512dq") != 0},
           {"AVX-512 VL", __builtin_cpu_supports("avx512vl") != 0},
           {"AVX-512 VNNI", __builtin_cpu_supports("avx512vnni") != 0},
           {"AVX-512 VBMI", __builtin_cpu_supports("avx512vbmi") != 0},
           {"AVX-512 BF16", __builtin_cpu_supports("avx512bf16") != 0}}};
}
#else
// What the system says of a feature: by its bit in Linux's first word of them, by its name in macOS.
bool has([[maybe_unused]] int bit, [[maybe_unused]] const char* name) {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) >> bit & 1) != 0;
#elif defined(__APPLE__)
  int present = 0;
  size_t size = sizeof present;
  return sysctlbyname(name, &present, &size, nullptr, 0) == 0 && present != 0;
#else
  return false;
#endif
}

std::array<Description, kFeatureCount> features() {
  constexpr int kDotProducts = 20;  // HWCAP_ASIMDDP
  return {{{"DotProd", has(kDotProducts, "hw.optional.arm.FEAT_DotProd")}}};
}
#endif

}  // namespace

std::string lacking(Features needed) {
  // Once: in virtual machines the hypervisor answers CPUID.
  static const auto all = features();
  std::string names;
  for (int i = 0; i < kFeatureCount; ++i) {
    if ((needed >> i & 1) != 0 && !all[i].present)
      names += (names.empty() ? "the CPU lacks " : ", ") + std::string(all[i].name);
  }
  return names;
}
#endif

}  // namespace moe::cpu
