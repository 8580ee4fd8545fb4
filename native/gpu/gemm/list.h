// Every grouped GEMM kernel, best first. Each name stands for two things: gpu::NAME is the kernel's row (a GemmKernel),
// and NAME in MOE_GPU_NAMESPACE its functions (GemmFunctions).
#pragma once

#if defined(MOE_EXTENSION)
#include "extension/gpu/gemm_kernels.h"
#else
#define MOE_EXTENSION_GEMM_KERNELS(KERNEL)
#endif

#define MOE_GEMM_KERNELS(KERNEL)     \
  MOE_EXTENSION_GEMM_KERNELS(KERNEL) \
  KERNEL(kWgmmaBF16)                 \
  KERNEL(kWgmmaF16)                  \
  KERNEL(kMmaBF16)                   \
  KERNEL(kMmaF16)                    \
  KERNEL(kMmaTF32)                   \
  KERNEL(kFmaF32)                    \
  KERNEL(kFmaF16)                    \
  KERNEL(kFmaBF16)                   \
  KERNEL(kWgmmaQuantizedInt8)        \
  KERNEL(kWgmmaQuantizedFp8)         \
  KERNEL(kWgmmaQuantizedBF16)        \
  KERNEL(kWgmmaQuantizedF16)         \
  KERNEL(kMmaQuantizedInt8)          \
  KERNEL(kMmaQuantizedFp8)           \
  KERNEL(kMmaQuantizedBF16)          \
  KERNEL(kMmaQuantizedF16)           \
  KERNEL(kFmaQuantized)
