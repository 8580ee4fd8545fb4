// The backend's operators that measure routers.
#include "gpu/statistics/statistics.cuh"

#include "gpu/backend.h"

namespace moe::MOE_GPU_NAMESPACE {

Status GpuBackend::router_scores(const RouterScores& p) {
  MOE_TRY(runtime().use());
  return launch_router_scores(p, runtime().traits(), runtime().stream());
}

Status GpuBackend::expert_totals(const ExpertTotals& p) {
  MOE_TRY(runtime().use());
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(expert_totals_bytes(p)));
  gpu::IdError* error = nullptr;
  MOE_TRY(context_.errors.next({"expertTotals: ids", "an expert", p.tokens.shape[1], p.ids.shape[1]}, &error));
  return launch_expert_totals(p, scratch.at(0), error, runtime().traits(), runtime().stream());
}

Status GpuBackend::column_means(const ColumnMeans& p) {
  MOE_TRY(runtime().use());
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(column_means_bytes(p)));
  return launch_column_means(p, scratch.at(0), runtime().traits(), runtime().stream());
}

Status GpuBackend::balance_loss(const BalanceLoss& p) {
  MOE_TRY(runtime().use());
  return launch_balance_loss(p, runtime().stream());
}

Status GpuBackend::imbalance(const Imbalance& p) {
  MOE_TRY(runtime().use());
  return launch_imbalance(p, runtime().stream());
}

Status GpuBackend::update_selection_bias(const SelectionBiasUpdate& p) {
  MOE_TRY(runtime().use());
  return launch_update_selection_bias(p, runtime().stream());
}

Status GpuBackend::accumulate(const Accumulate& p) {
  MOE_TRY(runtime().use());
  return launch_accumulate(p, runtime().traits(), runtime().stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
