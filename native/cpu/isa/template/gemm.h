// The rows that every instruction set's table of matrix products has. See kernels.h here.

// A row whose tile kernels are built from `Step`.
template <class Step>
constexpr GemmKernel gemm_kernel(GemmKernel row) {
  row.max_rows = kTileRows;
  row.tile = tiles<Step>();
  return row;
}

#if defined(MOE_EXTENSION)
#include "extension/cpu/gemm_kernels.h"
#else
#define MOE_EXTENSION_GEMM_KERNELS
#endif

constexpr GemmKernel kCommonGemm[] = {gemm_kernel<PlainWeight<float>>({.name = "f32",
                                                                       .tokens = kAllTokens,
                                                                       .arithmetic = Arithmetic::f32,
                                                                       .format = &kF32Format,
                                                                       .panels = &kF32Panels,
                                                                       .numbers = kFloatNumbers}),
                                      gemm_kernel<PlainWeight<f16>>({.name = "f16",
                                                                     .tokens = kAllTokens,
                                                                     .arithmetic = Arithmetic::f32,
                                                                     .format = &kF16Format,
                                                                     .panels = &kF16Panels,
                                                                     .numbers = kFloatNumbers}),
                                      gemm_kernel<PairedWeight>({.name = "bf16",
                                                                 .tokens = kAllTokens,
                                                                 .arithmetic = Arithmetic::f32,
                                                                 .format = &kBF16Format,
                                                                 .panels = &kBF16Panels,
                                                                 .numbers = kFloatNumbers}),
                                      MOE_EXTENSION_GEMM_KERNELS};
