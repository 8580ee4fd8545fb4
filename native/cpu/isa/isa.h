// Instruction sets, chosen at run time.
#pragma once

#include <string>
#include <vector>

#include "core/kernel_description.h"
#include "core/status.h"
#include "core/variables.h"
#include "cpu/isa/kernels.h"

namespace moe::cpu {

// All kernels of this build, fastest first, including those that this CPU cannot run.
std::vector<const Kernels*> all_kernels();
// Those that this CPU can run, fastest first. Never empty: the portable ones always run.
std::vector<const Kernels*> available_kernels();
// The others, and why, in words.
struct MissingKernels {
  const Kernels* kernels;
  std::string reason;
};
std::vector<MissingKernels> missing_kernels();
// The fastest of those that are available, or the one that MOE_CPU_ISA names.
Status select_kernels(const Variables& variables, const Kernels** kernels);
// The id of packed weights of a format at an instruction set's width, "none" if there is no kernel for them.
std::string layout_id(const Kernels& kernels, const WeightFormat& format);
// The rows of every instruction set's table of matrix products. Those of the one that select_kernels() gives say what
// they are chosen for.
std::vector<KernelDescription> describe_kernels(const Variables& variables);

// What they have beside AVX-512's, AVX2's or NEON's: data, and functions that may run only where the instruction set
// exists.
namespace avx512_bf16 {
extern const std::span<const GemmKernel> kGemm;
extern const PeakLoop kPeak;
}  // namespace avx512_bf16
namespace avx512_vbmi {
// See Kernels.
void expand_grids(Grid grid, const char* units, int64_t steps, char* codes);
void expand_odd4(const char* stored, int64_t pairs, char* scales);
}  // namespace avx512_vbmi
namespace avx512_vnni {
extern const std::span<const GemmKernel> kGemm;
extern const std::span<const GemmKernel> kDigitGemm;  // products of float tokens by those of their digits
extern const PeakLoop kPeak;
}  // namespace avx512_vnni
namespace amx {
extern const std::span<const GemmKernel> kGemm;
extern const PeakLoop kBf16Peak, kInt8Peak;
}  // namespace amx
namespace avx512 {
extern const Kernels kKernels;
}
namespace avx2_vnni {
extern const std::span<const GemmKernel> kGemm;
extern const std::span<const GemmKernel> kDigitGemm;
extern const PeakLoop kPeak;
}  // namespace avx2_vnni
namespace avx2 {
extern const Kernels kKernels;
}
namespace neon_dotprod {
extern const std::span<const GemmKernel> kGemm;
extern const std::span<const GemmKernel> kDigitGemm;
extern const PeakLoop kPeak;
}  // namespace neon_dotprod
namespace neon {
extern const Kernels kKernels;
}
namespace portable {
extern const Kernels kKernels;
}

}  // namespace moe::cpu
