#include "gpu/gemm/mma_quantized_launch.cuh"

namespace moe::MOE_GPU_NAMESPACE {

const GemmFunctions kMmaQuantizedF16{.launch = launch_mma_quantized<f16>, .pack = pack_quantized};

}  // namespace moe::MOE_GPU_NAMESPACE
