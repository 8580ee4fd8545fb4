// The stages on the CPU, each in a file of this folder that defines `<stage>_stage`.
#pragma once

#include "cpu/layer/pass.h"

namespace moe::cpu {

struct CpuStage {
  // Takes memory for what the stage leaves and for itself.
  void (*take)(Pass& pass, Arena& arena);
  // On the calling thread, which shares the work with others.
  Status (*run)(Pass& pass);
};

#define MOE_STAGE(stage, name) extern const CpuStage stage##_stage;
MOE_STAGES(MOE_STAGE)
#undef MOE_STAGE

inline const CpuStage& cpu_stage(Stage stage) {
#define MOE_STAGE(stage, name) \
  case Stage::stage: return stage##_stage;
  switch (stage) { MOE_STAGES(MOE_STAGE) }
#undef MOE_STAGE
  return router_stage;
}

}  // namespace moe::cpu
