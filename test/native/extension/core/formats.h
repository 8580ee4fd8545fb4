// A weight format of the tests, added to native/core/formats/named.h from outside.
#pragma once

#include "core/formats/weight_format.h"

namespace moe {

// Unsigned codes of 4 bits in groups of 16 columns, each with a float32 scale and a zero point.
inline constexpr WeightFormat kTestU4G16Format{.name = "test_u4_g16",
                                               .code = CodeType::unsigned_integer,
                                               .bits = 4,
                                               .scales = {ScaleType::f32, 1, 16},
                                               .offset = Offset::zero_point};

}  // namespace moe

#define MOE_EXTENSION_FORMATS &kTestU4G16Format,
