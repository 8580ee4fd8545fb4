#include "cpu/isa/isa.h"

#include <cstdlib>

namespace moe::cpu {

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> kernels;
#if defined(MOE_X86)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                        __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && __builtin_cpu_supports("avx512bf16")) kernels.push_back(&avx512_bf16::kKernels);
  if (has_avx512) kernels.push_back(&avx512::kKernels);
  if (has_avx2) kernels.push_back(&avx2::kKernels);
#endif
  kernels.push_back(&portable::kKernels);
  return kernels;
}

Status select_kernels(const Kernels** kernels) {
  const std::vector<const Kernels*> available = available_kernels();
  *kernels = available.front();
  const char* wanted = std::getenv("MOE_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return {};
  std::string names;
  for (const Kernels* candidate : available) {
    if (std::string(wanted) == candidate->name) {
      *kernels = candidate;
      return {};
    }
    names += (names.empty() ? "" : ", ") + std::string(candidate->name);
  }
  return {Code::device_unavailable, "MOE_CPU_ISA: expected one of " + names + " on this CPU, got \"" + wanted + "\""};
}

}  // namespace moe::cpu
