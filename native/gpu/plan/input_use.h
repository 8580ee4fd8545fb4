// What a product does to its rows of x before it multiplies them.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moe::gpu {

enum class InputUse : uint8_t { as_they_are, reordered, scaled };

// Scaled rows are not rounded: whatever the tokens are, they are multiplied as float32.
constexpr DType as_read(InputUse use, DType tokens) { return use == InputUse::scaled ? DType::f32 : tokens; }

}  // namespace moe::gpu
