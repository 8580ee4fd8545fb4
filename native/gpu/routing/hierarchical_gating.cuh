// A gate over groups of experts, then one within each chosen group.
#pragma once

#include "core/operators/problem.h"
#include "gpu/runtime/device_traits.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

size_t hierarchical_gating_bytes(const HierarchicalGating& p);

// `workspace` holds hierarchical_gating_bytes().
Status launch_hierarchical_gating(const HierarchicalGating& p, char* workspace, unsigned long long* non_finite_rows,
                                  gpu::IdError* error, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
