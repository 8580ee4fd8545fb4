// Which tokens of a batch count: padding does not.
#pragma once

#include "core/tensor_view.h"

namespace moe {

class TokenMask {
 public:
  // From [T] u8. If the mask is absent, all tokens count.
  explicit TokenMask(const TensorView& mask) : mask_(mask.as<const uint8_t>()) {}

  MOE_HOST_DEVICE bool counts(int64_t token) const { return mask_ == nullptr || mask_[token] != 0; }
  // How many of tokens first .. end - 1 count.
  MOE_HOST_DEVICE int64_t count(int64_t first, int64_t end) const {
    if (mask_ == nullptr) return end - first;
    int64_t counted = 0;
    for (int64_t token = first; token < end; ++token) counted += counts(token) ? 1 : 0;
    return counted;
  }

 private:
  const uint8_t* mask_;
};

}  // namespace moe
