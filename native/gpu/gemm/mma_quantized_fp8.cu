#include "gpu/gemm/mma_quantized_launch.cuh"

namespace moe::MOE_GPU_NAMESPACE {

const GemmFunctions kMmaQuantizedFp8{.launch = launch_mma_quantized<fp8>, .pack = pack_quantized};

}  // namespace moe::MOE_GPU_NAMESPACE
