// The stages on the CPU. Each has a file in this folder that defines `<stage>_stage`.
#pragma once

#include "cpu/layer/pass.h"

namespace moe::cpu {

struct CpuStage {
  // Takes memory for the stage's results and for its own use.
  void (*take)(Pass& pass, StageMemory& memory);
  // Runs on the calling thread, which shares the work with others.
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
