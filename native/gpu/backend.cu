#include "gpu/backend.h"

#include "gpu/experts/combine.cuh"
#include "gpu/experts/permute.cuh"
#include "gpu/gemm/grouped_gemm.cuh"
#include "gpu/gemm/pack.cuh"
#include "gpu/layer/layer.h"
#include "gpu/noise/noisy_top_k.cuh"
#include "gpu/noise/random.cuh"
#include "gpu/routing/capacity.cuh"
#include "gpu/routing/expert_choice.cuh"
#include "gpu/routing/gating.cuh"
#include "gpu/routing/hierarchical_gating.cuh"
#include "gpu/routing/router_projection.cuh"
#include "gpu/routing/sort.cuh"

namespace moe::MOE_GPU_NAMESPACE {

// The factory of cuda/devices.h and simt/devices.h.
Status open(int index, const DeviceOptions& options, std::unique_ptr<Backend>* backend) {
  std::unique_ptr<Runtime> runtime;
  MOE_TRY(Runtime::open(index, options, &runtime));
  auto made = std::make_unique<GpuBackend>(std::move(runtime), options.tf32);
  MOE_TRY(made->open());
  *backend = std::move(made);
  return {};
}

Status GpuBackend::write(void* device, const void* host, size_t bytes) { return runtime().write(device, host, bytes); }

Status GpuBackend::read(void* host, const void* device, size_t bytes) {
  MOE_TRY(runtime().read(host, device, bytes));
  return context_.errors.collect(warnings);
}

Status GpuBackend::synchronize() {
  MOE_TRY(runtime().synchronize());
  return context_.errors.collect(warnings);
}

Status GpuBackend::router_projection(const RouterProjection& p) {
  MOE_TRY(runtime().use());
  return launch_router_projection(p, runtime().traits(), runtime().stream());
}

Status GpuBackend::gating(const Gating& p) {
  MOE_TRY(runtime().use());
  return launch_gating(p, context_.errors.non_finite_rows(), runtime().traits(), runtime().stream());
}

Status GpuBackend::limit_capacity(const LimitCapacity& p) {
  MOE_TRY(runtime().use());
  const gpu::CapacityPlan plan = gpu::plan_capacity(p, runtime().traits());
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(plan.workspace_bytes));
  gpu::IdError* error = nullptr;
  MOE_TRY(context_.errors.next({"limitCapacity: ids", "an expert", p.experts, p.ids.shape[1]}, &error));
  return launch_limit_capacity(p, plan, scratch.at(0), error, runtime().stream());
}

Status GpuBackend::expert_slots(const ExpertSlots& p) {
  MOE_TRY(runtime().use());
  const int64_t experts = p.slots.shape[0];
  const gpu::ExpertSlotsPlan plan = gpu::plan_expert_slots(p, runtime().traits());
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(plan.sorted.workspace_bytes));
  gpu::IdError* error = nullptr;
  MOE_TRY(context_.errors.next({"expertSlots: ids", "an expert", experts, p.ids.shape[1]}, &error));
  if (p.slots.bytes() > 0) MOE_TRY(runtime().fill(p.slots.data, 0xff, static_cast<size_t>(p.slots.bytes())));
  return launch_expert_slots(p, plan, scratch.at(0), error, runtime().stream());
}

Status GpuBackend::expert_choice(const ExpertChoice& p) {
  MOE_TRY(runtime().use());
  const gpu::ExpertChoicePlan plan = gpu::plan_expert_choice(p, runtime().traits());
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(plan.workspace_bytes));
  return launch_expert_choice(p, plan, scratch.at(0), context_.errors.non_finite_rows(), runtime().stream());
}

Status GpuBackend::hierarchical_gating(const HierarchicalGating& p) {
  MOE_TRY(runtime().use());
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(hierarchical_gating_bytes(p)));
  gpu::IdError* error = nullptr;
  MOE_TRY(context_.errors.next({"hierarchicalGating: group", "a row", p.group_logits.size(), 0}, &error));
  return launch_hierarchical_gating(p, scratch.at(0), context_.errors.non_finite_rows(), error, runtime().traits(),
                                    runtime().stream());
}

Status GpuBackend::sort(const Sort& p) {
  MOE_TRY(runtime().use());
  const int64_t experts = p.tokens_per_expert.shape[0];
  const gpu::SortPlan plan = gpu::plan_sort(p.ids.size(), experts, runtime().traits());
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(plan.workspace_bytes));
  gpu::IdError* error = nullptr;
  MOE_TRY(context_.errors.next({"sort: ids", "an expert", experts, p.ids.shape[1]}, &error));
  return launch_sort(p, {}, plan, scratch.at(0), error, runtime().stream());
}

Status GpuBackend::permute(const Permute& p) {
  MOE_TRY(runtime().use());
  gpu::IdError* error = nullptr;
  MOE_TRY(context_.errors.next({"permute: tokenOfRow", "a row", p.x.shape[0], 0}, &error));
  return launch_gather_rows(p.x, p.token_of_row, p.rows, error, runtime().traits(), runtime().stream());
}

Status GpuBackend::unpermute(const Unpermute& p) {
  MOE_TRY(runtime().use());
  gpu::IdError* error = nullptr;
  MOE_TRY(context_.errors.next({"unpermute: rowOfSlot", "a row", p.rows.shape[0], p.row_of_slot.shape[1]}, &error));
  return launch_gather_rows(p.rows, p.row_of_slot, p.slots, error, runtime().traits(), runtime().stream());
}

Status GpuBackend::grouped_gemm(const GroupedGemm& p) {
  const ExpertProduct& weights = p.weight->weights();
  const int64_t rows = p.y.shape[0];
  const gpu::DeviceTraits& traits = runtime().traits();
  const Stream stream = runtime().stream();
  MOE_TRY(runtime().use());
  MOE_TRY(gpu::check_rows("groupedGemm: y", rows));
  const gpu::GemmPlan plan =
      gpu::plan_gemm({p.x.dtype, plain_dtype(*weights.format), rows, weights.experts, gpu::packed_layout(weights).rows,
                      weights.columns, gpu::rows_aligned(p.x), context_.tf32},
                     traits);
  Scratch map(runtime());
  MOE_TRY(map.reserve(plan.tile_map_bytes));
  Scratch converted(runtime());
  MOE_TRY(converted.reserve(gpu::converted_bytes(plan, p.x.shape[0])));

  gpu::IdError* error = nullptr;
  MOE_TRY(context_.errors.next({"groupedGemm: offsets", nullptr, rows, 0}, &error));
  MOE_TRY(launch_tile_map(p.offsets.as<int>(), weights.experts, rows, plan.tile.rows, map.at(0), error,
                          traits.max_threads, stream));
  if (plan.converts_x) {
    MOE_TRY(launch_pack_rows(whole_matrix(p.x), {}, {converted.at(0), plan.x_dtype, p.x.shape[0], plan.x_pitch}, traits,
                             stream));
  }
  GemmInput input{.x = plan.converts_x ? converted.at(0) : p.x.data,
                  .rows = p.x.shape[0],
                  .token_of_row = p.token_of_row.as<int>()};
  MOE_TRY(context_.errors.next({"groupedGemm: tokenOfRow", "a row", p.x.shape[0], 0}, &input.token_error));
  return launch_grouped_gemm({.input = input,
                              .weight = static_cast<const GpuPackedExperts*>(p.weight)->data(),
                              .weights = weights,
                              .bias = p.bias,
                              .result = {.y = p.y.data, .dtype = p.y.dtype, .pitch = p.y.shape[1]}},
                             plan, map.at(0), stream);
}

Status GpuBackend::combine(const Combine& p) {
  MOE_TRY(runtime().use());
  gpu::IdError* error = nullptr;
  MOE_TRY(context_.errors.next({"combine: rowOfSlot", "a row", p.rows.shape[0], p.row_of_slot.shape[1]}, &error));
  return launch_combine(p, error, runtime().traits(), runtime().stream());
}

Status GpuBackend::random(const Random& p) {
  MOE_TRY(runtime().use());
  return launch_random(p, runtime().traits(), runtime().stream());
}

Status GpuBackend::jitter(const Jitter& p) {
  MOE_TRY(runtime().use());
  return launch_jitter(p, runtime().traits(), runtime().stream());
}

Status GpuBackend::noisy_logits(const NoisyLogits& p) {
  MOE_TRY(runtime().use());
  return launch_noisy_logits(p, runtime().traits(), runtime().stream());
}

Status GpuBackend::expert_load(const ExpertLoad& p) {
  MOE_TRY(runtime().use());
  Scratch scratch(runtime());
  MOE_TRY(scratch.reserve(expert_load_workspace(p).bytes));
  gpu::IdError* error = nullptr;
  const int64_t choices = p.group_ids.absent() ? 0 : p.group_ids.shape[1];
  MOE_TRY(context_.errors.next({"expertLoad: groups.ids", "a group", p.groups(), choices}, &error));
  return launch_expert_load(p, scratch.at(0), error, runtime().traits(), runtime().stream());
}

Status GpuBackend::copy_matrix(const CopyMatrix& p) {
  MOE_TRY(runtime().use());
  return launch_pack_rows(p.source, {}, {p.target.data, p.target.dtype, p.source.rows, p.source.columns},
                          runtime().traits(), runtime().stream());
}

Status GpuBackend::packed_experts(const ExpertProduct& weights, std::unique_ptr<PackedExperts>* packed) {
  std::unique_ptr<GpuPackedExperts> made;
  MOE_TRY(GpuPackedExperts::create(weights, runtime(), &made));
  *packed = std::move(made);
  return {};
}

Status GpuBackend::layer(const LayerDescription& description, std::unique_ptr<Layer>* layer) {
  return GpuLayer::create(description, context_, layer);
}

}  // namespace moe::MOE_GPU_NAMESPACE
