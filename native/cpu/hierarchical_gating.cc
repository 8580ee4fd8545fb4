#include "cpu/hierarchical_gating.h"

#include <algorithm>
#include <atomic>

#include "cpu/gating.h"

namespace moe::cpu {

namespace {

constexpr int64_t kTokensAtOnce = 64;

// The logits of one group of one token.
TensorView group_of(const TensorView& logits, int64_t token, int64_t group, int64_t size) {
  TensorView row = logits;
  row.data =
      logits.as<char>() + (token * logits.shape[1] + group * size) * static_cast<int64_t>(info(logits.dtype).bytes);
  row.shape[0] = 1;
  row.shape[1] = size;
  return row;
}

}  // namespace

Status hierarchical_gating(Context& context, const HierarchicalGating& p) {
  const int64_t tokens = p.logits.shape[0], size = p.group_size();
  const int64_t chosen = p.groups.top_k, each = p.experts.top_k;
  const int64_t scratch_size = gating_scratch(std::max(p.group_logits.shape[1], size));
  int32_t *scratch = nullptr, *groups = nullptr;
  float* group_weights = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    scratch = arena.take<int32_t>(scratch_size * context.team.threads);
    groups = arena.take<int32_t>(tokens * chosen);
    group_weights = arena.take<float>(tokens * chosen);
  }));
  std::atomic<int64_t> next{0}, not_finite{0};
  context.team.run([&](const Worker& worker) {
    int32_t* own = scratch + worker.index * scratch_size;
    for (int64_t begin; (begin = kTokensAtOnce * next++) < tokens;) {
      const int64_t end = std::min(tokens, begin + kTokensAtOnce);
      int64_t rows =
          gate_rows(context.kernels, p.group_logits, p.groups, nullptr, groups, group_weights, begin, end, own);
      for (int64_t slot = begin * chosen; slot < end * chosen; ++slot) {
        const int64_t group = groups[slot];
        int32_t* ids = p.ids.as<int32_t>() + slot * each;
        float* weights = p.weights.as<float>() + slot * each;
        rows += gate_rows(context.kernels, group_of(p.logits, slot / chosen, group, size), p.experts, nullptr, ids,
                          weights, 0, 1, own);
        for (int64_t j = 0; j < each; ++j) {
          ids[j] += static_cast<int32_t>(group * size);
          weights[j] *= group_weights[slot];
        }
      }
      not_finite += rows;
    }
  });
  context.warnings.non_finite_logit_rows += not_finite.load();
  return {};
}

}  // namespace moe::cpu
