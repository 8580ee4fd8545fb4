// Indices from tensors: checked before they are used.
#pragma once

#include <cstdint>

#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

using gpu::IdError;

// Positions past the last that fits into 32 bits are reported as that one.
__device__ __forceinline__ void report_id(IdError* error, int64_t position, int value) {
  constexpr int64_t kLast = 0xffffffff;
  const auto place = static_cast<unsigned long long>(position < kLast ? position : kLast);
  atomicMin(&error->first, (place << 32) | static_cast<uint32_t>(value));
}

// `id` if it is in 0 .. limit - 1, otherwise -1. Anything outside that range but -1 is reported.
__device__ __forceinline__ int checked_id(int id, int64_t limit, int64_t position, IdError* error) {
  if (id >= 0 && id < limit) return id;
  if (id != -1) report_id(error, position, id);
  return -1;
}

}  // namespace moe::MOE_GPU_NAMESPACE
