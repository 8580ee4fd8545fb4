// The kernels that measure routers.
#pragma once

#include "core/operators/statistics.h"
#include "gpu/runtime/device_traits.h"
#include "gpu/runtime/id_error.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

Status launch_router_scores(const RouterScores& p, const gpu::DeviceTraits& traits, Stream stream);

// Sums over the rows of each sequence: a thread adds up one column of one unit of rows, then another the units. The
// sums of the units are in `workspace`.
size_t expert_totals_bytes(const ExpertTotals& p);
Status launch_expert_totals(const ExpertTotals& p, void* workspace, gpu::IdError* error,
                            const gpu::DeviceTraits& traits, Stream stream);
size_t column_means_bytes(const ColumnMeans& p);
Status launch_column_means(const ColumnMeans& p, void* workspace, const gpu::DeviceTraits& traits, Stream stream);

// One block each: they work on S * E values, few beside the tokens.
Status launch_balance_loss(const BalanceLoss& p, Stream stream);
Status launch_imbalance(const Imbalance& p, Stream stream);
Status launch_update_selection_bias(const SelectionBiasUpdate& p, Stream stream);

Status launch_accumulate(const Accumulate& p, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
