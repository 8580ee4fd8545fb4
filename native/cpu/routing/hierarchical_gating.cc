#include <algorithm>
#include <atomic>
#include <cstring>

#include "cpu/operators.h"
#include "cpu/routing/gating.h"

namespace moe::cpu {

namespace {

constexpr int64_t kTokensAtOnce = 64;

// Gathers the logits of the chosen groups [tokens, chosen] of tokens from `first` on into `rows`, one row per group.
TensorView gather_groups(const HierarchicalGating& p, const int32_t* groups, int64_t first, int64_t slots, char* rows) {
  const int64_t size = p.group_size(), chosen = p.groups.top_k;
  const TensorView gathered{rows, p.logits.dtype, 2, {slots, size}};
  for (int64_t slot = 0; slot < slots; ++slot) {
    std::memcpy(gathered.at(slot), p.logits.at(first + slot / chosen, groups[slot] * size),
                static_cast<size_t>(gathered.row_bytes()));
  }
  return gathered;
}

}  // namespace

Status run(Context& context, const HierarchicalGating& p) {
  const int64_t tokens = p.logits.shape[0], size = p.group_size();
  const int64_t chosen = p.groups.top_k, each = p.experts.top_k;
  const int64_t scratch_size = gating_scratch(std::max(p.group_logits.shape[1], size));
  const int64_t rows_size = kTokensAtOnce * chosen * size;
  int32_t *scratch = nullptr, *groups = nullptr;
  float* rows = nullptr;
  float* group_weights = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    scratch = arena.take<int32_t>(scratch_size * context.team.threads);
    rows = arena.take<float>(rows_size * context.team.threads);
    groups = arena.take<int32_t>(tokens * chosen);
    group_weights = arena.take<float>(tokens * chosen);
  }));
  std::atomic<int64_t> not_finite{0};
  context.team.for_pieces(tokens, kTokensAtOnce, [&](int thread, int64_t begin, int64_t end) {
    int32_t* own = scratch + thread * scratch_size;
    not_finite += gate_rows(context.kernels, p.group_logits, p.groups, nullptr, groups, group_weights, begin, end, own);
    const int64_t first = begin * chosen, slots = (end - begin) * chosen;
    const TensorView logits =
        gather_groups(p, groups + first, begin, slots, reinterpret_cast<char*>(rows + thread * rows_size));
    int32_t* ids = p.ids.as<int32_t>() + first * each;
    float* weights = p.weights.as<float>() + first * each;
    not_finite += gate_rows(context.kernels, logits, p.experts, nullptr, ids, weights, 0, slots, own);
    for (int64_t i = 0; i < slots * each; ++i) {
      ids[i] += groups[first + i / each] * static_cast<int32_t>(size);
      weights[i] *= group_weights[first + i / each];
    }
  });
  context.warnings.non_finite_logit_rows += not_finite.load();
  return {};
}

}  // namespace moe::cpu
