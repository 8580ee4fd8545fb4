// What the rows of the grouped GEMM table do on this device.
#pragma once

#include "core/status.h"
#include "gpu/gemm/gemm_arguments.cuh"
#include "gpu/gemm/kernels.h"
#include "gpu/gemm/pack.cuh"
#include "gpu/plan/gemm_plan.h"
#include "gpu/tile/dispatch.h"

#include <ptx/launch.cuh>

namespace moe::MOE_GPU_NAMESPACE {

using GemmLauncher = Status (*)(const GemmArguments& arguments, const gpu::GemmPlan& plan, Stream stream);

struct GemmFunctions {
  GemmLauncher launch;
  // Packs one expert into the row's layout.
  Status (*pack)(const PackExpert& pack, Runtime& runtime);
};

#define MOE_DECLARE_FUNCTIONS(NAME) extern const GemmFunctions NAME;
MOE_GEMM_KERNELS(MOE_DECLARE_FUNCTIONS)
#undef MOE_DECLARE_FUNCTIONS

const GemmFunctions& functions_of(const gpu::GemmKernel& kernel);

// Launches the kernel of the plan's tile.
template <class Kernel, class Arguments>
Status launch_gemm(Kernel* kernel, const Arguments& arguments, const gpu::GemmPlan& plan, Stream stream) {
  return launch(plan.kernel->name, kernel, dim3(plan.grid), dim3(plan.tile.threads()), plan.shared_bytes, stream,
                arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
