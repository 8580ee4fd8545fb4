// Turns what is known at run time into types and constants known at compile time.
#pragma once

#include <type_traits>

#include "core/dtype.h"
#include "core/status.h"

namespace moe::gpu {

// Calls `use` with a std::type_identity of the element type; `dtype` is a float type.
template <class Use>
Status dispatch_float(DType dtype, Use&& use) {
  switch (dtype) {
    case DType::f16: return use(std::type_identity<f16>{});
    case DType::bf16: return use(std::type_identity<bf16>{});
    default: return use(std::type_identity<float>{});
  }
}

// Calls `use` with `index`, which is 0 .. kCount - 1, as a std::integral_constant.
template <int kCount, int kFirst = 0, class Use>
Status dispatch_index(int index, Use&& use) {
  if constexpr (kFirst + 1 < kCount) {
    if (index != kFirst) return dispatch_index<kCount, kFirst + 1>(index, use);
  }
  return use(std::integral_constant<int, kFirst>{});
}

}  // namespace moe::gpu
