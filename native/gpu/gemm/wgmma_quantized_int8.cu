#include "gpu/gemm/quantized_launch.cuh"
#include "gpu/gemm/wgmma_quantized.cuh"

namespace moe::MOE_GPU_NAMESPACE {

const GemmFunctions kWgmmaQuantizedInt8{.launch = launch_quantized<quantized::Wgmma, int8_t>, .pack = pack_quantized};

}  // namespace moe::MOE_GPU_NAMESPACE
