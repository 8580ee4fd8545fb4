// Conversions between stored and float32 values, outside the kernels: uploads and downloads.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moe {

inline void halves_to_f32(DType dtype, const void* source, int64_t count, float* values) {
  if (dtype == DType::bf16) {
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(static_cast<const bf16*>(source)[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(static_cast<const f16*>(source)[i]);
  }
}

inline void f32_to_halves(DType dtype, const float* values, int64_t count, void* target) {
  if (dtype == DType::bf16) {
    for (int64_t i = 0; i < count; ++i) static_cast<bf16*>(target)[i] = bf16(values[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) static_cast<f16*>(target)[i] = f16(values[i]);
  }
}

}  // namespace moe
