// Every weight format of this build.
#pragma once

#include <span>

#include "core/formats/weight_format.h"

#if defined(MOE_EXTENSION)
#include "extension/core/formats.h"
#endif

namespace moe {

inline constexpr const WeightFormat* kWeightFormats[] = {&kF32Format, &kF16Format, &kBF16Format,
#if defined(MOE_EXTENSION)
                                                         MOE_EXTENSION_FORMATS
#endif
};

}  // namespace moe
