#include "core/divide.h"
#include "cpu/noise/load_groups.h"
#include "cpu/operators.h"

namespace moe::cpu {

Status run(Context& context, const NoisyLogits& p) {
  constexpr int64_t kLogitsAtOnce = 1024;
  const float* clean = p.clean.as<const float>();
  const float* spread = p.spread.as<const float>();
  const float* noise = p.noise.as<const float>();
  float* logits = p.logits.as<float>();
  float* deviation = p.deviation.as<float>();
  context.team.for_range(p.clean.size(), kLogitsAtOnce, [&](int64_t begin, int64_t end) {
    context.kernels.add_noise(clean + begin, spread + begin, noise + begin, p.epsilon, end - begin, logits + begin,
                              deviation + begin);
  });
  return {};
}

// Adds the probabilities of tokens begin .. end to `sums` [E], and the number of them that chose each group to `tokens`
// [G].
static void add_block(const Kernels& kernels, const ExpertLoad& p, const LoadGroups& groups, int64_t begin, int64_t end,
                      double* sums, int64_t* tokens, int32_t* scratch) {
  const int64_t experts = p.clean.shape[1];
  std::fill(sums, sums + experts, 0.0);
  std::fill(tokens, tokens + groups.count, 0);
  for (int64_t token = begin; token < end; ++token) {
    for (int64_t group = 0; group < groups.count; ++group) {
      if (!groups.chosen(token, group)) continue;
      ++tokens[group];
      const int64_t first = group * groups.experts;
      const int64_t row = token * experts + first;
      kernels.add_load(p.clean.as<const float>() + row, p.noisy.as<const float>() + row,
                       p.deviation.as<const float>() + row, static_cast<int32_t>(groups.experts), p.top_k, sums + first,
                       scratch);
    }
  }
}

Status run(Context& context, const ExpertLoad& p) {
  const int64_t rows = p.clean.shape[0];
  const int64_t experts = p.clean.shape[1];
  const LoadGroups groups(p);
  const int64_t blocks = ceil_divide(rows, kLoadBlock);
  double* sums = nullptr;
  int64_t* tokens = nullptr;
  int32_t* scratch = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    sums = arena.take<double>(blocks * experts);
    tokens = arena.take<int64_t>(blocks * groups.count);
    scratch = arena.take<int32_t>(load_scratch(groups.experts) * context.team.threads);
  }));
  context.team.for_pieces(rows, kLoadBlock, [&](int thread, int64_t begin, int64_t end) {
    const int64_t block = begin / kLoadBlock;
    add_block(context.kernels, p, groups, begin, end, sums + block * experts, tokens + block * groups.count,
              scratch + thread * load_scratch(groups.experts));
  });
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t group = e / groups.experts;
    double sum = 0.0;
    int64_t chosen = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      sum += sums[block * experts + e];
      chosen += tokens[block * groups.count + group];
    }
    if (!p.group_load.absent()) {
      sum = chosen == 0 ? 0.0 : p.group_load.as<const float>()[group] * sum / static_cast<double>(chosen);
    }
    p.load.as<float>()[e] = static_cast<float>(sum);
  }
  return groups.check("expertLoad: groups.ids");
}

}  // namespace moe::cpu
