#include "cpu/backend.h"

#include <cstring>

#include "cpu/gemm/panels.h"
#include "cpu/isa/isa.h"
#include "cpu/layer/layer.h"
#include "cpu/noise/noisy_top_k.h"
#include "cpu/noise/random.h"
#include "cpu/routing/gating.h"
#include "cpu/routing/sort.h"
#include "cpu/runtime/mapping.h"
#include "cpu/runtime/rows.h"
#include "cpu/runtime/topology.h"

namespace moe::cpu {

Status CpuBackend::open(const DeviceOptions& options, std::unique_ptr<Backend>* backend) {
  const Kernels* kernels = nullptr;
  MOE_TRY(select_kernels(&kernels));
  backend->reset(new CpuBackend(*kernels, options));
  return {};
}

CpuBackend::CpuBackend(const Kernels& kernels, const DeviceOptions& options)
    : context_(kernels, options.threads > 0 ? options.threads : usable_cpus(), options.poison, warnings),
      description_(cpu_model() + ", " + kernels.name + ", " + std::to_string(context_.team.threads) +
                   (context_.team.threads == 1 ? " thread" : " threads")) {}

Status CpuBackend::allocate(size_t bytes, void** data) { return cpu::allocate(bytes, context_.poison, data); }

void CpuBackend::release(void* data, size_t) { cpu::release(data); }

Status CpuBackend::write(void* device, const void* host, size_t bytes) {
  std::memcpy(device, host, bytes);
  return {};
}

Status CpuBackend::read(void* host, const void* device, size_t bytes) {
  std::memcpy(host, device, bytes);
  return {};
}

Status CpuBackend::gating(const Gating& p) {
  const int64_t scratch = gating_scratch(p.logits.shape[1]);
  constexpr int64_t kTokensAtOnce = 64;
  int32_t* gate = nullptr;
  float* bias = nullptr;
  MOE_TRY(reserve_workspace(context_, [&](Arena& arena) {
    gate = arena.take<int32_t>(scratch * context_.team.threads);
    bias = p.selection_bias.absent() ? nullptr : arena.take<float>(p.selection_bias.size());
  }));
  if (!p.selection_bias.absent()) {
    context_.kernels.to_f32(p.selection_bias.dtype, p.selection_bias.data, p.selection_bias.size(), bias);
  }
  std::atomic<int64_t> not_finite{0};
  context_.team.for_pieces(p.logits.shape[0], kTokensAtOnce, [&](int thread, int64_t begin, int64_t end) {
    not_finite += gate_rows(context_.kernels, p.logits, p.rule, bias, p.ids.as<int32_t>(), p.weights.as<float>(), begin,
                            end, gate + thread * scratch);
  });
  warnings.non_finite_logit_rows += not_finite.load();
  return {};
}

Status CpuBackend::sort(const Sort& p) {
  const int64_t top_k = std::max<int64_t>(1, p.ids.shape[1]);
  return sort_rows({"sort: ids", p.ids.as<const int32_t>(), p.ids.size() / top_k, top_k, p.tokens_per_expert.shape[0]},
                   {p.offsets.as<int32_t>(), p.tokens_per_expert.as<int32_t>(), p.token_of_row.as<int32_t>(),
                    p.row_of_slot.as<int32_t>()});
}

Status CpuBackend::permute(const Permute& p) {
  return gather_rows(context_.team, "permute: tokenOfRow", p.x, p.token_of_row.as<const int32_t>(),
                     p.token_of_row.size(), p.rows.as<char>());
}

Status CpuBackend::unpermute(const Unpermute& p) {
  return gather_rows(context_.team, "unpermute: rowOfSlot", p.rows, p.row_of_slot.as<const int32_t>(),
                     p.row_of_slot.size(), p.slots.as<char>());
}

Status CpuBackend::combine(const Combine& p) {
  const int64_t top_k = p.row_of_slot.shape[1];
  const int64_t hidden = p.rows.shape[1];
  const int64_t tokens = p.y.shape[0];
  const Kernels& kernels = context_.kernels;
  const int64_t row_bytes = hidden * static_cast<int64_t>(info(p.rows.dtype).bytes);
  const int64_t y_bytes = hidden * static_cast<int64_t>(info(p.y.dtype).bytes);
  const int32_t* row_of_slot = p.row_of_slot.as<const int32_t>();
  const void** slot_rows = nullptr;
  float* lines = nullptr;
  MOE_TRY(reserve_workspace(context_, [&](Arena& arena) {
    slot_rows = arena.take<const void*>(top_k * context_.team.threads);
    lines = arena.take<float>(hidden * context_.team.threads);
  }));
  context_.team.for_pieces(tokens, 1, [&](int thread, int64_t token, int64_t) {
    const void** rows = slot_rows + thread * top_k;
    float* line = lines + thread * hidden;
    for (int64_t j = 0; j < top_k; ++j) {
      const int64_t row = index_or_none(row_of_slot[token * top_k + j], p.rows.shape[0]);
      rows[j] = row < 0 ? nullptr : p.rows.as<const char>() + row * row_bytes;
    }
    kernels.combine(p.rows.dtype, rows, p.weights.as<const float>() + token * top_k, static_cast<int32_t>(top_k),
                    hidden, line);
    kernels.from_f32(p.y.dtype, line, hidden, p.y.as<char>() + token * y_bytes);
  });
  return check_indices("combine: rowOfSlot", row_of_slot, tokens * top_k, p.rows.shape[0]);
}

Status CpuBackend::random(const Random& p) {
  fill_random(context_, p);
  return {};
}

Status CpuBackend::jitter(const Jitter& p) {
  jitter_rows(context_, p);
  return {};
}

Status CpuBackend::noisy_logits(const NoisyLogits& p) {
  add_noise(context_, p);
  return {};
}

Status CpuBackend::expert_load(const ExpertLoad& p) { return estimate_load(context_, p); }

Status CpuBackend::copy_matrix(const CopyMatrix& p) {
  const int64_t columns = p.source.columns;
  const int64_t row_bytes = columns * static_cast<int64_t>(info(p.target.dtype).bytes);
  float* lines = nullptr;
  MOE_TRY(
      reserve_workspace(context_, [&](Arena& arena) { lines = arena.take<float>(columns * context_.team.threads); }));
  context_.team.for_pieces(p.source.rows, 1, [&](int thread, int64_t row, int64_t) {
    float* line = lines + thread * columns;
    read_row(context_.kernels, p.source, row, 0, columns, line);
    context_.kernels.from_f32(p.target.dtype, line, columns, p.target.as<char>() + row * row_bytes);
  });
  return {};
}

Status CpuBackend::packed_experts(const ExpertProduct& weights, std::unique_ptr<PackedExperts>* packed) {
  std::unique_ptr<CpuPackedExperts> made;
  MOE_TRY(CpuPackedExperts::create(weights, context_.kernels, context_.team, context_.poison, &made));
  *packed = std::move(made);
  return {};
}

Status CpuBackend::layer(const LayerDescription& description, std::unique_ptr<Layer>* layer) {
  return CpuLayer::create(description, context_, layer);
}

std::string CpuBackend::weight_layout() const {
  if (!kMapsFiles) return {};
  return "cpu-panels-v" + std::to_string(PanelLayout::kVersion) + "-" + std::to_string(context_.kernels.panel_columns);
}

Status CpuBackend::map_file(int descriptor, size_t bytes, std::shared_ptr<void>* data) {
  std::shared_ptr<Mapping> mapping;
  MOE_TRY(Mapping::open(descriptor, bytes, &mapping));
  *data = std::shared_ptr<void>(mapping, mapping->data());
  return {};
}

Status CpuBackend::stored_layer(const LayerDescription& description, const std::vector<WeightPart>& parts,
                                std::unique_ptr<Layer>* layer) {
  return CpuLayer::over(parts, description, context_, layer);
}

}  // namespace moe::cpu
