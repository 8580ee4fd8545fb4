// Instruction sets, chosen at run time.
#pragma once

#include <string>
#include <vector>

#include "core/kernel_description.h"
#include "core/status.h"
#include "cpu/isa/kernels.h"

namespace moe::cpu {

// The kernels of this build, fastest first, whether they run on this CPU or not.
std::vector<const Kernels*> all_kernels();
// Those that run on this CPU, fastest first. Never empty: the portable ones always do.
std::vector<const Kernels*> available_kernels();
// The first of them, or the one that the environment variable MOE_CPU_ISA names.
Status select_kernels(const Kernels** kernels);
// The id of these panels, as wide as an instruction set's.
std::string layout_id(const Kernels& kernels, const PanelFormat& panels);
// The rows of all tables of matrix products.
std::vector<KernelDescription> describe_kernels();

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
