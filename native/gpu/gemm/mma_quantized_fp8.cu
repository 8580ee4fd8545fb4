#include "gpu/gemm/mma_quantized.cuh"
#include "gpu/gemm/quantized_launch.cuh"

namespace moe::MOE_GPU_NAMESPACE {

const GemmFunctions kMmaQuantizedFp8{.launch = launch_quantized<quantized::Mma, fp8>, .pack = pack_quantized};

}  // namespace moe::MOE_GPU_NAMESPACE
