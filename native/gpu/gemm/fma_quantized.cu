#include "gpu/gemm/quantized_weights.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

Status launch_quantized(const GemmArguments& a, const gpu::GemmPlan& plan, Stream stream) {
  return with_quantized_weights(a.format, [&](auto weights) { return launch_fma<decltype(weights)>(a, plan, stream); });
}

}  // namespace

const GemmFunctions kFmaQuantized{.launch = launch_quantized, .pack = pack_quantized};

}  // namespace moe::MOE_GPU_NAMESPACE
