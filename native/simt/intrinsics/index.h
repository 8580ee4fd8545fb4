// The running CUDA thread's place in its block and grid, set by the scheduler at every switch.
#pragma once

#include "simt/intrinsics/vector_types.h"

namespace moe::simt {

inline constinit thread_local uint3 threadIdx{};
inline constinit thread_local uint3 blockIdx{};
inline constinit thread_local dim3 blockDim{};
inline constinit thread_local dim3 gridDim{};
inline constexpr int warpSize = 32;

}  // namespace moe::simt
