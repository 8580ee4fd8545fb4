#include "cpu/layer/pass.h"

#include <algorithm>

#include "cpu/gemm/streams.h"
#include "cpu/layer/stage.h"
#include "cpu/layer/token_packer.h"
#include "cpu/runtime/clock.h"

namespace moe::cpu {

LayerTokens LayerTokens::part(int64_t begin, int64_t size, const LayerDescription& description) const {
  const auto from = [begin](auto* values, int64_t per_token) {
    return values == nullptr ? nullptr : values + begin * per_token;
  };
  const int64_t row_bytes = description.hidden * static_cast<int64_t>(info(dtype).bytes);
  LayerTokens some = *this;
  some.x = from(x, row_bytes);
  some.count = size;
  some.first = first + begin;
  some.ids = from(ids, choices);
  some.weights = from(weights, choices);
  some.logits = from(logits, description.experts);
  some.residual = from(residual, description.hidden * static_cast<int64_t>(info(residual_dtype).bytes));
  some.y = from(y, row_bytes);
  return some;
}

Status Pass::run(StageTimes& times, Buffer* kept) {
  MOE_TRY(reserve(kept));
  double begin = seconds();
  for (const Stage stage : stages) {
    MOE_TRY(cpu_stage(stage).run(*this));
    const double end = seconds();
    times[stage] += end - begin;
    begin = end;
  }
  context.warnings.non_finite_logit_rows += non_finite_rows.load();
  return std::move(data_error);
}

Status Pass::reserve(Buffer* kept) {
  StageMemory sizes;
  take(sizes);
  const size_t state_bytes = sizes.state.size(), scratch_bytes = sizes.scratch.size();
  Buffer& workspace = context.workspace;
  MOE_TRY(workspace.reserve(std::max<size_t>(scratch_bytes + (kept == nullptr ? state_bytes : 0), 1), context.poison));
  if (kept != nullptr) MOE_TRY(kept->reserve(std::max<size_t>(state_bytes, 1), context.poison));
  StageMemory memory{.state = Arena(kept != nullptr ? kept->data() : workspace.data() + scratch_bytes),
                     .scratch = Arena(workspace.data())};
  take(memory);
  return {};
}

void Pass::take(StageMemory& memory) {
  if (tokens.ids != nullptr) state.ids = tokens.ids;
  if (tokens.weights != nullptr) state.weights = tokens.weights;
  if (tokens.logits != nullptr) state.logits = tokens.logits;
  for (const Stage stage : stages) cpu_stage(stage).take(*this, memory);
}

Operand Pass::down(const LayerWeights::Group& group) const {
  const float* bias = floats(weights.down_bias);
  if (bias != nullptr) bias += group.experts.first * layer.hidden;
  return operand(*group.down, tokens.dtype, bias, layer.hidden);
}

Status Pass::multiply(const Operand& operand, const TiledRows& x, const RowsBefore& before, float* results) {
  const PanelLayout& layout = operand.weights.layout();
  const int64_t outputs = operand.weights.weights().outputs();
  const bool streams = are_streamed(most_rows() * outputs * int64_t{sizeof(float)});
  return multiply(operand, x, before, direct_matrix(results, outputs, streams), [&](const TileResults& tile) {
    const int64_t first = tile.panel * layout.outputs_per_panel;
    const int64_t count = std::min(layout.outputs_per_panel, outputs - first);
    kernels.store_rows(tile.c, tile.rows, count, results + tile.row() * outputs + first, outputs, streams);
  });
}

Status Pass::project(const Operand& operand, float* results) {
  const int32_t offsets[2] = {0, static_cast<int32_t>(tokens.count)};
  const std::vector<RowTile> tiles = plan_tiles(offsets, 1, operand.gemm.max_rows);
  const TokenPacker packer(*this, operand, nullptr, nullptr);
  return multiply(operand, {tiles, &packer}, {}, results);
}

}  // namespace moe::cpu
