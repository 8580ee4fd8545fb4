// GPUs to plan for.
#pragma once

#include "gpu/runtime/device_traits.h"

namespace moe::gpu::test {

inline constexpr DeviceTraits kA100{.multiprocessors = 108,
                                    .shared_per_block = 163 * 1024,
                                    .shared_per_multiprocessor = 164 * 1024,
                                    .max_threads = 1024,
                                    .compute_capability = 80};
inline constexpr DeviceTraits kH100{.multiprocessors = 132,
                                    .shared_per_block = 227 * 1024,
                                    .shared_per_multiprocessor = 228 * 1024,
                                    .max_threads = 1024,
                                    .compute_capability = 90};
inline constexpr DeviceTraits kL40S{.multiprocessors = 142,
                                    .shared_per_block = 99 * 1024,
                                    .shared_per_multiprocessor = 100 * 1024,
                                    .max_threads = 1024,
                                    .compute_capability = 89};
inline constexpr DeviceTraits kSmall{.multiprocessors = 20,
                                     .shared_per_block = 99 * 1024,
                                     .shared_per_multiprocessor = 100 * 1024,
                                     .max_threads = 1024,
                                     .compute_capability = 86};

}  // namespace moe::gpu::test
