// The tests' stage on the CPU.
#include "cpu/layer/stage.h"

namespace moe::cpu {

namespace {

void take(Pass&, StageMemory&) {}

Status run(Pass& pass) {
  const int64_t hidden = pass.layer.hidden;
  const int64_t row_bytes = hidden * static_cast<int64_t>(info(pass.tokens.dtype).bytes);
  const Work work{.bytes = 2.0 * static_cast<double>(pass.tokens.count * row_bytes)};
  pass.for_items(pass.tokens.count, work, [&](const Worker&, int64_t token) {
    char* y = pass.tokens.y + token * row_bytes;
    for (int64_t h = 0; h < hidden; ++h) {
      float value = 0;
      const int64_t at = h * row_bytes / hidden;
      pass.kernels.to_f32(pass.tokens.dtype, y + at, 1, &value);
      value = -value;
      pass.kernels.from_f32(pass.tokens.dtype, &value, 1, y + at);
    }
  });
  return {};
}

}  // namespace

const CpuStage test_negate_stage{.take = take, .run = run};

}  // namespace moe::cpu
