// Instruction sets, chosen at run time.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "cpu/isa/kernels.h"

namespace moe::cpu {

// The kernels that run on this CPU, fastest first. Never empty: the portable ones always do.
std::vector<const Kernels*> available_kernels();
// The first of them, or the one that the environment variable MOE_CPU_ISA names.
Status select_kernels(const Kernels** kernels);

namespace avx512_bf16 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace portable {
extern const Kernels kKernels;
}

}  // namespace moe::cpu
