#include "cpu/gemm/panels.h"

#include <algorithm>
#include <string>

#include "core/formats/input_order.h"
#include "cpu/gemm/check_codes.h"
#include "cpu/gemm/streams.h"
#include "cpu/gemm/weight_reader.h"

namespace moe::cpu {

PanelLayout::PanelLayout(const ExpertProduct& weights, const PanelFormat& format, int64_t columns)
    : panel_columns(columns),
      outputs_per_panel(weights.gated() ? columns / 2 : columns),
      panels(ceil_divide(weights.outputs(), outputs_per_panel)),
      padded_k(round_up(weights.columns, format.step)),
      step(format.step),
      step_bytes(columns * format.column_bytes),
      group(format.group),
      grid(format.grid),
      code_bits(weights.format->bits) {
  if (format.scales_apart) {
    levels = panel_levels(*weights.format, columns, padded_k, !grid.absent());
    scales = PanelScales(*weights.format, columns, padded_k);
  }
  panel_bytes = place_of(padded_k);
}

Status check_part(const WeightPart& part, int64_t bytes) {
  const auto wrong = [&](const std::string& expected, size_t got) {
    return Status{Code::invalid_argument,
                  "stored weights: expected " + expected + " of " + part.name + ", got " + std::to_string(got)};
  };
  if (part.bytes != static_cast<size_t>(bytes)) return wrong(std::to_string(bytes) + " bytes", part.bytes);
  const auto place = reinterpret_cast<uintptr_t>(part.data) % kAlignment;
  if (place == 0) return {};
  return wrong("a multiple of " + std::to_string(kAlignment) + " as the place", place);
}

Status borrow_part(const WeightPart& part, int64_t bytes, Buffer& buffer) {
  MOE_TRY(check_part(part, bytes));
  buffer.borrow(part.data, part.bytes);
  return {};
}

Status CpuPackedExperts::make(const ExpertProduct& weights, const Kernels& kernels, const Team& team,
                              std::unique_ptr<CpuPackedExperts>* packed) {
  const GemmKernel* row = choose_gemm(kernels.gemm, DType::f32, *weights.format);
  if (row == nullptr) {
    return {Code::unsupported_dtype, std::string("weights of ") + weights.format->name + ": cpu (" + kernels.name +
                                         ") has no kernel for them; `moe-kernels info --kernels` lists those it has"};
  }
  packed->reset(new CpuPackedExperts(weights, row->panels(*weights.format), kernels, team));
  return {};
}

Status CpuPackedExperts::create(const ExpertProduct& weights, const Kernels& kernels, const Team& team, bool poison,
                                std::unique_ptr<CpuPackedExperts>* packed) {
  MOE_TRY(make(weights, kernels, team, packed));
  CpuPackedExperts& made = **packed;
  MOE_TRY(made.buffer_.reserve(static_cast<size_t>(made.stored_bytes()), poison));
  std::fill(made.data() + made.packed_bytes(), made.data() + made.stored_bytes(), 0);
  return {};
}

Status CpuPackedExperts::borrowing(const ExpertProduct& weights, const Kernels& kernels, const Team& team,
                                   std::unique_ptr<CpuPackedExperts>* packed) {
  MOE_TRY(make(weights, kernels, team, packed));
  (*packed)->borrowed_.resize(static_cast<size_t>(weights.experts));
  return {};
}

Status CpuPackedExperts::over(const WeightPart& stored, const ExpertProduct& weights, const Kernels& kernels,
                              const Team& team, std::unique_ptr<CpuPackedExperts>* packed) {
  MOE_TRY(make(weights, kernels, team, packed));
  return borrow_part(stored, (*packed)->stored_bytes(), (*packed)->buffer_);
}

Status CpuPackedExperts::check(std::vector<int32_t> experts) const {
  return checked_ == nullptr ? Status() : checked_->check(team_, std::move(experts));
}

Status CpuPackedExperts::check(const std::vector<RowTile>& tiles) const {
  if (checked_ == nullptr) return {};
  std::vector<int32_t> experts;
  for (const RowTile& tile : tiles) {
    if (experts.empty() || experts.back() != tile.expert) experts.push_back(tile.expert);
  }
  return check(std::move(experts));
}

// Plain weights can be packed from any format. Others take their own format only: codes are never recomputed.
Status CpuPackedExperts::check_source(const WeightView& weight) const {
  const WeightFormat& stored = *weights().format;
  if (!stored.plain()) {
    if (weight.format != &stored) {
      return {Code::unsupported_dtype, std::string("setExpert: expected a weight in ") + stored.name +
                                           ", in which the layer stores it, got " + weight.format->name};
    }
    MOE_TRY(check_codes(team_, weight, weights().columns));
  }
  return weight.input_order == nullptr ? Status{} : check_input_order(weight.input_order, weight.columns);
}

namespace {

template <class Value>
bool equal(const Value* first, const Value* second, int64_t count) {
  if (first == nullptr || second == nullptr) return first == second;
  return std::equal(first, first + count, second);
}

}  // namespace

Status CpuPackedExperts::set_expert(int64_t expert, const WeightView& weight, const WeightView& up) {
  const bool gated = weights().gated();
  MOE_TRY(check_source(weight));
  if (gated) MOE_TRY(check_source(up));
  if (!weights().format->plain()) {
    if (gated && !(weight.columns == up.columns && equal(weight.input_scale, up.input_scale, up.columns) &&
                   equal(weight.input_order, up.input_order, up.columns))) {
      return different_inputs();
    }
    MOE_TRY(inputs_.set(expert, weight));
  }
  Source read_now;
  Source& source = borrows() ? borrowed_[expert] : read_now;
  source.weight.emplace(kernels_, weight);
  if (gated) source.up.emplace(kernels_, up);
  if (borrows()) return {};
  char* target = buffer_.data() + expert * layout_.expert_bytes();
  const bool streams = are_streamed(packed_bytes());
  team_.for_range(layout_.panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel)
      pack(source, panel, streams, target + panel * layout_.panel_bytes);
    kernels_.end_streams();
  });
  return {};
}

void CpuPackedExperts::pack(const Source& source, int64_t panel, bool streams, char* target) const {
  // Of an expert that was never set.
  if (!source.weight.has_value()) {
    std::memset(target, 0, static_cast<size_t>(layout_.panel_bytes));
    return;
  }
  format_.pack({.weight = &*source.weight,
                .up = source.up.has_value() ? &*source.up : nullptr,
                .first_row = panel * layout_.outputs_per_panel,
                .outputs = weights().outputs(),
                .panel_columns = layout_.panel_columns,
                .padded_k = layout_.padded_k,
                .levels = &layout_.levels,
                .streams = streams},
               target);
}

}  // namespace moe::cpu
