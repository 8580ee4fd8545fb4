#include "cpu/gemm/panels.h"

#include <algorithm>

namespace moe::cpu {

namespace {

// k values of a column that are placed before the next column's: the part of the panel they go to fits the first cache.
constexpr int64_t kChunk = 256;

// Places values of one column into its panel, a k group of `Unit` at a time.
template <class Unit>
void place(const void* values, int64_t groups, int64_t panel_columns, char* target) {
  const Unit* source = static_cast<const Unit*>(values);
  Unit* column = reinterpret_cast<Unit*>(target);
  for (int64_t g = 0; g < groups; ++g) column[g * panel_columns] = source[g];
}

}  // namespace

PanelLayout::PanelLayout(const ExpertProduct& weights, int64_t columns)
    : panel_columns(columns),
      outputs_per_panel(is_gated(weights.activation) ? columns / 2 : columns),
      panels(ceil_divide(weights.outputs(), outputs_per_panel)),
      padded_k(round_up(weights.columns, k_group(plain_dtype(*weights.format)))),
      element_bytes(weights.format->bits / 8) {}

Status borrow_part(const WeightPart& part, int64_t bytes, Buffer& buffer) {
  if (part.bytes != static_cast<size_t>(bytes)) {
    return {Code::invalid_argument, "stored weights: expected " + std::to_string(bytes) + " bytes of " + part.name +
                                        ", got " + std::to_string(part.bytes)};
  }
  buffer.borrow(part.data, part.bytes);
  return {};
}

Status CpuPackedExperts::create(const ExpertProduct& weights, const Kernels& kernels, const Team& team, bool poison,
                                std::unique_ptr<CpuPackedExperts>* packed) {
  packed->reset(new CpuPackedExperts(weights, kernels, team));
  CpuPackedExperts& made = **packed;
  MOE_TRY(made.buffer_.reserve(static_cast<size_t>(made.stored_bytes()), poison));
  std::fill(made.data() + made.packed_bytes(), made.data() + made.stored_bytes(), 0);
  return {};
}

Status CpuPackedExperts::over(const WeightPart& stored, const ExpertProduct& weights, const Kernels& kernels,
                              const Team& team, std::unique_ptr<CpuPackedExperts>* packed) {
  packed->reset(new CpuPackedExperts(weights, kernels, team));
  return borrow_part(stored, (*packed)->stored_bytes(), (*packed)->buffer_);
}

Status CpuPackedExperts::set_expert(int64_t expert, const WeightView& weight, const WeightView& up) {
  char* target = buffer_.data() + expert * layout_.expert_bytes();
  team_.for_range(layout_.panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      pack_panel(panel, weight, up, target + panel * layout_.panel_bytes());
    }
  });
  return {};
}

void read_row(const Kernels& kernels, const MatrixView& source, int64_t row, int64_t first, int64_t count,
              float* values) {
  const int64_t element = static_cast<int64_t>(info(source.dtype).bytes);
  const int64_t stride = source.column_stride * element;
  const char* from = static_cast<const char*>(source.data) + row * source.row_stride * element + first * stride;
  if (source.column_stride == 1) return kernels.to_f32(source.dtype, from, count, values);
  for (int64_t i = 0; i < count; ++i) kernels.to_f32(source.dtype, from + i * stride, 1, values + i);
}

void CpuPackedExperts::pack_panel(int64_t panel, const WeightView& weight, const WeightView& up, char* target) const {
  const int64_t outputs = weights().outputs();
  const DType dtype = plain_dtype(*weights().format);
  const int64_t group = k_group(dtype);
  alignas(64) float values[kChunk];
  alignas(64) char converted[kChunk * sizeof(float)];
  for (int64_t begin = 0; begin < layout_.padded_k; begin += kChunk) {
    const int64_t length = std::min(kChunk, layout_.padded_k - begin);
    for (int64_t column = 0; column < layout_.panel_columns; ++column) {
      const bool in_up = column >= layout_.outputs_per_panel;
      const MatrixView& source = (in_up ? up : weight).codes;
      const int64_t output = panel * layout_.outputs_per_panel + column % layout_.outputs_per_panel;
      const int64_t present =
          output < std::min(outputs, source.rows) ? std::clamp<int64_t>(source.columns - begin, 0, length) : 0;
      read_row(kernels_, source, output, begin, present, values);
      std::fill(values + present, values + length, 0.0f);
      kernels_.from_f32(dtype, values, length, converted);
      char* place_at = target + begin * layout_.row_bytes() + column * group * layout_.element_bytes;
      if (group * layout_.element_bytes == 4) {
        place<uint32_t>(converted, length / group, layout_.panel_columns, place_at);
      } else {
        place<uint16_t>(converted, length, layout_.panel_columns, place_at);
      }
    }
  }
}

}  // namespace moe::cpu
