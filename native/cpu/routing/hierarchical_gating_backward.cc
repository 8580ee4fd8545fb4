#include <algorithm>

#include "cpu/operators.h"
#include "cpu/routing/gating_gradient.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {
namespace {

// What one thread works with.
struct Lines {
  float* group_logits;   // [G]
  float* logits;         // [E]
  float* shares;         // [max(G, E / G)]
  float* group_weights;  // [k1]
  float* weights;        // [k1 * k2], of the second gates
};

void run_token(const Kernels& kernels, const HierarchicalGatingBackward& p, int64_t token, const Lines& lines) {
  const int64_t groups = p.group_logits.shape[1], experts = p.logits.shape[1], size = p.group_size();
  const int chosen = p.groups.top_k, each = p.experts.top_k;
  kernels.to_f32(p.group_logits.dtype, p.group_logits.at(token), groups, lines.group_logits);
  kernels.to_f32(p.logits.dtype, p.logits.at(token), experts, lines.logits);
  float* group_gradient = p.d_group_logits.as<float>() + token * groups;
  float* gradient = p.d_logits.as<float>() + token * experts;
  std::fill(group_gradient, group_gradient + groups, 0.0f);
  std::fill(gradient, gradient + experts, 0.0f);
  const int32_t* ids = p.ids.as<const int32_t>() + token * p.ids.shape[1];
  const float* weight_gradient = p.d_weights.as<const float>() + token * p.ids.shape[1];
  const auto id_of = [&](int slot) { return static_cast<int>(index_or_none(ids[slot], experts)); };
  const GroupedChoices<decltype(id_of)> choices{id_of, each, static_cast<int>(size)};

  // Calls use(gate, group) with the gate of the j-th slots' group.
  const auto second_gate = [&](int j, auto&& use) {
    const int group = choices.group(j);
    if (group < 0) return;
    const LogitRow row(kernels, lines.logits + group * size, size, p.experts.scoring, lines.shares);
    const auto choice = [&](int i) { return choices.expert(j * each + i, group); };
    dispatch_scoring(p.experts.scoring, [&](auto scoring) { use(fixed_gate<scoring>(p.experts, row, choice), group); });
  };
  std::fill(lines.weights, lines.weights + chosen * each, 0.0f);
  for (int j = 0; j < chosen; ++j) {
    second_gate(j, [&](const auto& gate, int) {
      for (int i = 0; i < each; ++i) lines.weights[j * each + i] = gate.weight(i);
    });
  }
  const LogitRow row(kernels, lines.group_logits, groups, p.groups.scoring, lines.shares);
  const auto choice = [&](int j) { return choices.group(j); };
  dispatch_scoring(p.groups.scoring, [&](auto scoring) {
    const auto gate = fixed_gate<scoring>(p.groups, row, choice);
    for (int j = 0; j < chosen; ++j) lines.group_weights[j] = gate.weight(j);
    gate.add_gradient(
        [&](int j) {
          float sum = 0.0f;
          for (int slot = j * each; slot < (j + 1) * each; ++slot) {
            if (id_of(slot) >= 0) sum += weight_gradient[slot] * lines.weights[slot];
          }
          return sum;
        },
        group_gradient);
  });
  for (int j = 0; j < chosen; ++j) {
    second_gate(j, [&](const auto& gate, int group) {
      gate.add_gradient([&](int i) { return weight_gradient[j * each + i] * lines.group_weights[j]; },
                        gradient + group * size);
    });
  }
}

}  // namespace

Status run(Context& context, const HierarchicalGatingBackward& p) {
  constexpr int64_t kTokensAtOnce = 32;
  const int64_t groups = p.group_logits.shape[1], experts = p.logits.shape[1], slots = p.ids.shape[1];
  const int64_t longest = std::max(groups, p.group_size());
  const int64_t line = groups + experts + longest + p.groups.top_k + slots;
  float* lines = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) { lines = arena.take<float>(line * context.team.threads); }));
  context.team.for_pieces(p.logits.shape[0], kTokensAtOnce, [&](int thread, int64_t begin, int64_t end) {
    Lines own{};
    own.group_logits = lines + thread * line;
    own.logits = own.group_logits + groups;
    own.shares = own.logits + experts;
    own.group_weights = own.shares + longest;
    own.weights = own.group_weights + p.groups.top_k;
    for (int64_t token = begin; token < end; ++token) run_token(context.kernels, p, token, own);
  });
  return check_ids("hierarchicalGatingBackward: routing.ids", p.ids, slots, TokenMask({}), experts, "an expert");
}

}  // namespace moe::cpu
