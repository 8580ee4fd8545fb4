// The stages of a layer. A call asks for a list of stages, which a device runs in order. Every device implements every
// stage, each in a file of its own.
#pragma once

#include <span>

#include "core/status.h"

#if defined(MOE_EXTENSION)
#include "extension/core/stages.h"
#else
#define MOE_EXTENSION_STAGES(X)
#endif

// X(stage, its name); lib/core/layer/stages.ts is the same list, in the order of a forward.
#define MOE_STAGES(X)                                                    \
  X(router, "router")          /* logits of x */                         \
  X(shared_gate, "sharedGate") /* outputs of the shared experts' gate */ \
  X(gating, "gating")          /* ids and weights of the logits */       \
  X(sort, "sort")              /* slots in order of their experts */     \
  X(gate_up, "gateUp")         /* inner activations of every row */      \
  X(down, "down")              /* outputs of every row */                \
  X(combine, "combine")        /* y */                                   \
  MOE_EXTENSION_STAGES(X)

namespace moe {

#define MOE_STAGE(stage, name) stage,
enum class Stage : uint8_t { MOE_STAGES(MOE_STAGE) };
#undef MOE_STAGE

#define MOE_STAGE(stage, name) name,
inline constexpr const char* kStageNames[] = {MOE_STAGES(MOE_STAGE)};
#undef MOE_STAGE

inline constexpr int kStageCount = static_cast<int>(std::size(kStageNames));

using Stages = std::span<const Stage>;

inline constexpr Stage kLogitsStages[] = {Stage::router};
inline constexpr Stage kRouteStages[] = {Stage::router, Stage::gating};
inline constexpr Stage kForwardStages[] = {Stage::router,  Stage::shared_gate, Stage::gating, Stage::sort,
                                           Stage::gate_up, Stage::down,        Stage::combine};
// Those of a forward whose routing is given.
inline constexpr Stage kRoutedStages[] = {Stage::shared_gate, Stage::sort, Stage::gate_up, Stage::down, Stage::combine};

constexpr bool contains(Stages stages, Stage wanted) {
  for (const Stage stage : stages) {
    if (stage == wanted) return true;
  }
  return false;
}

// Seconds that each stage of one pass took on the device.
struct StageTimes {
  double seconds[kStageCount] = {};

  double& operator[](Stage stage) { return seconds[static_cast<int>(stage)]; }
  double operator[](Stage stage) const { return seconds[static_cast<int>(stage)]; }
};

struct LayerDescription;
struct LayerForward;

// Checks that every stage is listed once, and after the stages whose results it reads unless those are given.
Status check_stages(Stages stages, const LayerDescription& layer, const LayerForward& forward);

}  // namespace moe
