// Turns a float dtype known at run time into a type known at compile time.
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

}  // namespace moe::gpu
