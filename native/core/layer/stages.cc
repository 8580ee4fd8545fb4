#include "core/layer/stages.h"

#include <string>

#include "core/layer/description.h"

namespace moe {

namespace {

// Checks that `needed` runs before `stage`, which reads its results.
Status after(Stages before, Stage stage, Stage needed) {
  if (contains(before, needed)) return {};
  return {Code::invalid_argument, std::string("stages: expected ") + kStageNames[static_cast<int>(needed)] +
                                      " before " + kStageNames[static_cast<int>(stage)]};
}

Status check_stage(Stages before, Stage stage, const LayerDescription& layer, const LayerForward& f) {
  switch (stage) {
    case Stage::gating: return f.logits.absent() ? after(before, stage, Stage::router) : Status{};
    case Stage::sort:
      if (layer.shared_gate != SharedGate::none) MOE_TRY(after(before, stage, Stage::shared_gate));
      return f.ids.absent() ? after(before, stage, Stage::gating) : Status{};
    case Stage::gate_up: return after(before, stage, Stage::sort);
    case Stage::down: return after(before, stage, Stage::gate_up);
    case Stage::combine:
      if (f.y.absent()) return {Code::invalid_argument, "stages: expected y with combine"};
      return after(before, stage, Stage::down);
    default: return {};
  }
}

}  // namespace

Status check_stages(Stages stages, const LayerDescription& layer, const LayerForward& forward) {
  for (size_t i = 0; i < stages.size(); ++i) {
    const Stages before = stages.first(i);
    if (contains(before, stages[i])) {
      return {Code::invalid_argument,
              std::string("stages: expected ") + kStageNames[static_cast<int>(stages[i])] + " once"};
    }
    MOE_TRY(check_stage(before, stages[i], layer, forward));
  }
  return {};
}

}  // namespace moe
