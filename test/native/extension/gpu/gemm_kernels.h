// GEMM kernels of the tests, added to native/gpu/gemm/list.h from outside.
#pragma once

#define MOE_EXTENSION_GEMM_KERNELS(KERNEL) KERNEL(kFmaTestU4G16)
