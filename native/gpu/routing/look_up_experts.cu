#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const int* table;
  const int* token_ids;
  int* ids;
  IdError* error;
  int64_t rows;
  int64_t slots;  // of all tokens
  int top_k;
};

// One thread per slot.
MOE_KERNEL(look_up_experts_kernel, (gpu::kRowThreads), const Arguments a) {
  for_each_item(a.slots, [&](int64_t slot) {
    const int64_t token = slot / a.top_k;
    const int row = checked_id(a.token_ids[token], a.rows, token, a.error);
    a.ids[slot] = row < 0 ? -1 : a.table[row * static_cast<int64_t>(a.top_k) + slot % a.top_k];
  });
}

}  // namespace

Status run(Context& context, const LookUpExperts& p) {
  const Arguments arguments{
      .table = p.table.as<int>(),
      .token_ids = p.token_ids.as<int>(),
      .ids = p.ids.as<int>(),
      .error = context.errors.next(
          {.parameter = "lookUpExperts: tokenIds", .what = "a token id", .limit = p.table.shape[0], .columns = 0}),
      .rows = p.table.shape[0],
      .slots = p.ids.size(),
      .top_k = static_cast<int>(p.ids.shape[1]),
  };
  return launch("look_up_experts", look_up_experts_kernel, dim3(gpu::element_grid(arguments.slots, context.traits())),
                dim3(gpu::kRowThreads), 0, context.stream(), arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
