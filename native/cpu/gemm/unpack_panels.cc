// Packed weights back to rows.
#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/gemm/product.h"

namespace moe::cpu {

namespace {

// `Element` is that of a plain format.
template <class Element>
void copy_column(const PanelLayout& layout, const char* panel, int64_t column, int64_t count, char* values) {
  const auto* from = reinterpret_cast<const Element*>(panel) + column * layout.group;
  auto* to = reinterpret_cast<Element*>(values);
  for (int64_t k = 0; k < count; ++k) {
    to[k] = from[k / layout.group * layout.group * layout.panel_columns + k % layout.group];
  }
}

}  // namespace

Status CpuPackedExperts::copy_expert(int64_t expert, bool up, const TensorView& target) const {
  MOE_TRY(check(std::vector{static_cast<int32_t>(expert)}));
  return weights().format->plain() ? copy_plain(expert, up, target) : copy_coded(expert, up, target);
}

Status CpuPackedExperts::copy_plain(int64_t expert, bool up, const TensorView& target) const {
  const ExpertProduct& product = weights();
  const DType dtype = plain_dtype(*product.format);
  const int64_t columns = product.columns, size = static_cast<int64_t>(info(dtype).bytes);
  const int64_t target_size = static_cast<int64_t>(info(target.dtype).bytes);
  const char* source = buffer_.data() + expert * layout_.expert_bytes();
  std::vector<char> lines(static_cast<size_t>(team_.threads * columns * size));
  std::vector<float> values(static_cast<size_t>(team_.threads * columns));
  team_.for_pieces(product.outputs(), 64, [&](int thread, int64_t begin, int64_t end) {
    char* line = lines.data() + thread * columns * size;
    float* row_values = values.data() + thread * columns;
    for (int64_t row = begin; row < end; ++row) {
      const char* panel = source + row / layout_.outputs_per_panel * layout_.panel_bytes;
      const int64_t column = row % layout_.outputs_per_panel + (up ? layout_.outputs_per_panel : 0);
      size == 4 ? copy_column<uint32_t>(layout_, panel, column, columns, line)
                : copy_column<uint16_t>(layout_, panel, column, columns, line);
      kernels_.to_f32(dtype, line, columns, row_values);
      kernels_.from_f32(target.dtype, row_values, columns, target.as<char>() + row * columns * target_size);
    }
  });
  return {};
}

namespace {

// Rows of the identity, packed as tiles of a product. Their products with a block of a panel's k are the block's
// columns as numbers.
class Identity {
 public:
  Identity(const Kernels& kernels, const GemmKernel& gemm, const PanelLayout& layout)
      : kernels_(kernels),
        gemm_(gemm),
        layout_(layout),
        block_(std::lcm<int64_t>(layout.step, k_group(gemm.arithmetic))) {
    std::vector<float> row(static_cast<size_t>(block_));
    for (int64_t first = 0; first < block_; first += gemm.max_rows) {
      const int rows = static_cast<int>(std::min<int64_t>(gemm.max_rows, block_ - first));
      Tile tile{.first = first,
                .rows = rows,
                .x = std::vector<char>(static_cast<size_t>(rows * packed_row_bytes(gemm, block_))),
                .sums = {}};
      for (int r = 0; r < rows; ++r) {
        row[first + r] = 1.0f;
        kernels.pack_row(gemm.arithmetic, DType::f32, row.data(), block_, block_, tile.x.data(), r, rows);
        row[first + r] = 0.0f;
      }
      if (gemm.sums_x(layout.scales, rows)) {
        const int64_t segments = block_ / layout.scales.segment;
        tile.sums.resize(static_cast<size_t>(segments * rows * gemm.row_sums));
        gemm.sum_segments(tile.x.data(), segments, layout.scales.segment, rows, tile.sums.data());
      }
      tiles_.push_back(std::move(tile));
    }
  }

  // Floats that multiply() needs room for: sums, behind parts of panels that it expands.
  int64_t room() const { return expanded_floats() + gemm_.max_rows * layout_.panel_columns; }

  // Calls use(k, the numbers of all columns) for each k of a panel.
  template <class Use>
  void multiply(const char* panel, float* room, Use&& use) const {
    float* const sums = room + expanded_floats();
    for (int64_t k = 0; k < layout_.padded_k; k += block_) {
      const int64_t count = std::min(block_, layout_.padded_k - k);
      const PanelParts parts = layout_.parts(kernels_, panel, k, count, reinterpret_cast<char*>(room));
      for (const Tile& tile : tiles_) {
        const int64_t first = k + tile.first;
        if (first >= layout_.padded_k) break;
        gemm_.tile[tile.rows]({.first_k = k,
                               .k = count,
                               .rows = tile.rows,
                               .x = tile.x.data(),
                               .w = parts.codes,
                               .c = sums,
                               .accumulate = false,
                               .scales = &layout_.scales,
                               .panel = parts.scales,
                               .x_sums = tile.sums.empty() ? nullptr : tile.sums.data()});
        if (const float* units = row_units(gemm_, tile.x.data(), block_, tile.rows)) {
          kernels_.scale_rows(units, tile.rows, sums);
        }
        for (int r = 0; r < tile.rows; ++r) use(first + r, sums + r * layout_.panel_columns);
      }
    }
    if (gemm_.release != nullptr) gemm_.release();
  }

 private:
  int64_t expanded_floats() const { return layout_.expanded_bytes(block_) / int64_t{sizeof(float)}; }

  struct Tile {
    int64_t first;  // row
    int rows;
    std::vector<char> x;
    std::vector<float> sums;  // see TileArguments::x_sums
  };

  const Kernels& kernels_;
  const GemmKernel& gemm_;
  const PanelLayout& layout_;
  int64_t block_;
  std::vector<Tile> tiles_;
};

}  // namespace

Status CpuPackedExperts::copy_coded(int64_t expert, bool up, const TensorView& target) const {
  const ExpertProduct& product = weights();
  const Identity identity(kernels_, *choose_gemm(kernels_.gemm, DType::f32, *product.format), layout_);
  const int64_t columns = product.columns, outputs = product.outputs(),
                first_column = up ? layout_.outputs_per_panel : 0;
  const int64_t target_size = static_cast<int64_t>(info(target.dtype).bytes);
  const char* source = buffer_.data() + expert * layout_.expert_bytes();
  // The factor and the input of every stored column.
  std::vector<float> scales(static_cast<size_t>(columns), 1.0f);
  std::vector<int32_t> inputs(static_cast<size_t>(columns));
  std::iota(inputs.begin(), inputs.end(), 0);
  if (inputs_.scales.data() != nullptr) {
    std::copy_n(reinterpret_cast<const float*>(inputs_.scales.data()) + expert * columns, columns, scales.data());
  }
  if (inputs_.orders.data() != nullptr) {
    std::copy_n(reinterpret_cast<const int32_t*>(inputs_.orders.data()) + expert * columns, columns, inputs.data());
  }
  const int64_t rows_size = layout_.outputs_per_panel * columns, size = rows_size + identity.room();
  std::vector<float> scratch(static_cast<size_t>(team_.threads * size));
  team_.for_pieces(layout_.panels, 1, [&](int thread, int64_t panel, int64_t) {
    float* rows = scratch.data() + thread * size;
    std::fill_n(rows, rows_size, 0.0f);
    identity.multiply(source + panel * layout_.panel_bytes, rows + rows_size, [&](int64_t k, const float* numbers) {
      if (k >= columns || inputs[k] < 0 || inputs[k] >= columns) return;
      for (int64_t row = 0; row < layout_.outputs_per_panel; ++row) {
        rows[row * columns + inputs[k]] += numbers[first_column + row] * scales[k];
      }
    });
    const int64_t first = panel * layout_.outputs_per_panel,
                  count = std::min(layout_.outputs_per_panel, outputs - first);
    kernels_.from_f32(target.dtype, rows, count * columns, target.as<char>() + first * columns * target_size);
  });
  return {};
}

}  // namespace moe::cpu
