#include "gpu/operators.h"
#include "gpu/plan/capacity_plan.h"

#include <ptx/launch.cuh>

#include "gpu/plan/views.h"
#include "gpu/routing/sort.cuh"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/radix.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// The choices, sorted by expert.
struct SortedIds {
  const int* ids;
  const int* offsets;
  const int* token_of_row;
  const int* row_of_slot;
};

struct Arguments {
  SortedIds sorted;
  const float* weights;
  int* kept_ids;
  float* kept_weights;
  uint64_t* numbers;  // of every row: its place in the serving order
  uint64_t* limits;   // of every sequence and expert: lower numbers are kept
  ServingOrder order;
  int64_t experts;
  int64_t groups;  // sequences times experts
  int64_t sequence_length;
  int64_t capacity;
  KeptDivisor divisor;
  float scale;
};

// One thread per token.
MOE_KERNEL(number_kernel, (gpu::kCapacityThreads), const Arguments a) {
  for_each_item(a.order.tokens, [&](int64_t token) {
    const float* weights = a.weights + token * a.order.top_k;
    const int* rows = a.sorted.row_of_slot + token * a.order.top_k;
    uint32_t largest = UINT32_MAX;
    for (int64_t slot = 0; slot < a.order.top_k; ++slot) {
      if (rows[slot] >= 0) largest = min(largest, descending_order(weights[slot]));
    }
    for (int64_t slot = 0; slot < a.order.top_k; ++slot) {
      if (rows[slot] < 0) continue;
      a.numbers[rows[slot]] = a.order.number(token, slot, descending_order(weights[slot]), largest);
    }
  });
}

// The first row in begin .. end - 1 whose token is at least `token`. An expert's rows are in token order.
__device__ __forceinline__ int first_row_of(const int* token_of_row, int begin, int end, int64_t token) {
  while (begin < end) {
    const int middle = begin + (end - begin) / 2;
    if (token_of_row[middle] < token) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

// One block per sequence and expert.
MOE_KERNEL(limit_kernel, (gpu::kLimitThreads), const Arguments a, int bits) {
  SelectStorage& storage = ptx::shared<SelectStorage>();
  for (int64_t group = blockIdx.x; group < a.groups; group += gridDim.x) {
    const int64_t expert = group % a.experts;
    const int64_t token = group / a.experts * a.sequence_length;
    const int expert_end = a.sorted.offsets[expert + 1];
    const int begin = first_row_of(a.sorted.token_of_row, a.sorted.offsets[expert], expert_end, token);
    const int end = first_row_of(a.sorted.token_of_row, begin, expert_end, token + a.sequence_length);
    uint64_t limit = UINT64_MAX;
    if (end - begin > a.capacity) {
      limit = block_select(end - begin, a.capacity, bits, storage, [&](int64_t i) { return a.numbers[begin + i]; });
    }
    if (threadIdx.x == 0) a.limits[group] = limit;
  }
}

// One thread per token.
MOE_KERNEL(keep_kernel, (gpu::kCapacityThreads), const Arguments a) {
  for_each_item(a.order.tokens, [&](int64_t token) {
    const int64_t first = token * a.order.top_k;
    const uint64_t* limits = a.limits + token / a.sequence_length * a.experts;
    float chosen_sum = 0.0f, kept_sum = 0.0f;
    for (int64_t slot = first; slot < first + a.order.top_k; ++slot) {
      const int row = a.sorted.row_of_slot[slot];
      const bool kept = row >= 0 && a.numbers[row] < limits[a.sorted.ids[slot]];
      const float chosen_weight = row >= 0 ? a.weights[slot] : 0.0f;
      const float kept_weight = kept ? chosen_weight : 0.0f;
      a.kept_ids[slot] = kept ? a.sorted.ids[slot] : -1;
      a.kept_weights[slot] = kept_weight;
      chosen_sum += chosen_weight;
      kept_sum += kept_weight;
    }
    const float sum = a.divisor == KeptDivisor::kept ? kept_sum : chosen_sum;
    if (a.divisor == KeptDivisor::none || sum == 0.0f) return;
    for (int64_t slot = first; slot < first + a.order.top_k; ++slot) {
      if (a.kept_ids[slot] >= 0) a.kept_weights[slot] = a.kept_weights[slot] / sum * a.scale;
    }
  });
}

// One thread per slot.
MOE_KERNEL(expert_slots_kernel, (gpu::kCapacityThreads), const SortedIds sorted, int64_t count, int64_t capacity,
           int* slots) {
  for_each_item(count, [&](int64_t slot) {
    const int row = sorted.row_of_slot[slot];
    if (row < 0) return;
    const int64_t expert = sorted.ids[slot];
    const int64_t place = row - sorted.offsets[expert];
    if (place < capacity) slots[expert * capacity + place] = static_cast<int>(slot);
  });
}

Status sort_ids(const TensorView& ids, int64_t experts, const gpu::SortedIdsPlan& plan, char* workspace,
                gpu::IdError* error, const gpu::DeviceTraits& traits, Stream stream, SortedIds* sorted) {
  const auto ints = [&](size_t offset, int64_t size) { return gpu::vector_view(workspace + offset, DType::i32, size); };
  const TensorView offsets = ints(plan.offsets, experts + 1);
  const TensorView token_of_row = ints(plan.token_of_row, ids.size());
  const TensorView row_of_slot = ints(plan.row_of_slot, ids.size());
  *sorted = {ids.as<int>(), offsets.as<int>(), token_of_row.as<int>(), row_of_slot.as<int>()};
  const Sort sort{.ids = ids,
                  .offsets = offsets,
                  .tokens_per_expert = ints(plan.tokens_per_expert, experts),
                  .token_of_row = token_of_row,
                  .row_of_slot = row_of_slot};
  return launch_sort(sort_arguments(sort, {.limit = experts}, {}, plan.sort, workspace + plan.counts, error), plan.sort,
                     traits, stream);
}

}  // namespace

Status run(Context& context, const LimitCapacity& p) {
  const Stream stream = context.stream();
  const gpu::CapacityPlan plan = gpu::plan_capacity(p, context.traits());
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(plan.workspace_bytes));
  gpu::IdError* error = context.errors.next(
      {.parameter = "limitCapacity: ids", .what = "an expert", .limit = p.experts, .columns = p.ids.shape[1]});
  const ServingOrder order{p.drop, p.ids.shape[0], p.ids.shape[1]};
  Arguments arguments{
      .sorted = {},
      .weights = p.weights.as<float>(),
      .kept_ids = p.kept_ids.as<int>(),
      .kept_weights = p.kept_weights.as<float>(),
      .numbers = reinterpret_cast<uint64_t*>(scratch.at(plan.numbers)),
      .limits = reinterpret_cast<uint64_t*>(scratch.at(plan.limits)),
      .order = order,
      .experts = p.experts,
      .groups = order.tokens / p.sequence_length * p.experts,
      .sequence_length = p.sequence_length,
      .capacity = p.capacity,
      .divisor = p.divisor,
      .scale = p.scale,
  };
  MOE_TRY(sort_ids(p.ids, p.experts, plan.sorted, scratch.at(0), error, context.traits(), stream, &arguments.sorted));
  const dim3 token_grid(plan.token_grid);
  const dim3 token_block(gpu::kCapacityThreads);
  MOE_TRY(launch("capacity_number", number_kernel, token_grid, token_block, 0, stream, arguments));
  MOE_TRY(launch("capacity_limit", limit_kernel, dim3(plan.limit_grid), dim3(plan.limit_threads), 0, stream, arguments,
                 order.bits()));
  return launch("capacity_keep", keep_kernel, token_grid, token_block, 0, stream, arguments);
}

Status run(Context& context, const ExpertSlots& p) {
  const Stream stream = context.stream();
  const int64_t experts = p.slots.shape[0];
  const gpu::ExpertSlotsPlan plan = gpu::plan_expert_slots(p, context.traits());
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(plan.sorted.workspace_bytes));
  gpu::IdError* error = context.errors.next(
      {.parameter = "expertSlots: ids", .what = "an expert", .limit = experts, .columns = p.ids.shape[1]});
  if (p.slots.bytes() > 0) MOE_TRY(context.runtime->fill(p.slots.data, 0xff, static_cast<size_t>(p.slots.bytes())));
  SortedIds sorted;
  MOE_TRY(sort_ids(p.ids, p.slots.shape[0], plan.sorted, scratch.at(0), error, context.traits(), stream, &sorted));
  return launch("expert_slots", expert_slots_kernel, dim3(plan.grid), dim3(gpu::kCapacityThreads), 0, stream, sorted,
                p.ids.size(), p.slots.shape[1], p.slots.as<int>());
}

}  // namespace moe::MOE_GPU_NAMESPACE
