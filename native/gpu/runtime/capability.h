// Whose kernels a GPU uses.
#pragma once

#include "core/status.h"
#include "core/variables.h"

namespace moe::gpu {

// Replaces a compute capability, 80 for 8.0, by MOE_GPU_CAPABILITY if that is set. It may be 80 to `most`.
Status read_capability(const Variables& variables, int most, int* capability);

}  // namespace moe::gpu
