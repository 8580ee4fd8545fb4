// Expert weights as the CPU reads them: in panels of columns, so that a thread streams one contiguous piece of memory.
#pragma once

#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "core/divide.h"
#include "cpu/gemm/expert_inputs.h"
#include "cpu/gemm/plan.h"
#include "cpu/gemm/weight_reader.h"
#include "cpu/isa/kernels.h"
#include "cpu/runtime/checked_part.h"
#include "cpu/runtime/memory.h"
#include "cpu/runtime/team.h"

namespace moe::cpu {

// What kernels read of a panel.
struct PanelParts {
  const char* scales;  // where levels begin, see PanelScales
  const char* codes;
};

// One expert's weight [rows, columns] (outputs x k) is cut into panels of panel_columns outputs. A gated panel holds
// panel_columns / 2 gate columns, then the up columns of the same outputs. The last panel's missing columns and the
// padding after the last k are zeros.
struct PanelLayout {
  int64_t panel_columns = 0;
  int64_t outputs_per_panel = 0;
  int64_t panels = 0;
  int64_t padded_k = 0;
  int64_t step = 0;        // consecutive k that are stored together,
  int64_t step_bytes = 0;  // in this many bytes of a panel
  int64_t group = 1;       // consecutive k of a column that lie next to each other
  PanelLevels levels;      // if the panel format keeps scales apart: before the first k
  PanelScales scales;      // as kernels read them, once expanded
  GridCodes grid;          // of the codes, if they are stored so
  int code_bits = 0;       // of each code, once expanded
  int64_t panel_bytes = 0;

  PanelLayout() = default;
  PanelLayout(const ExpertProduct& weights, const PanelFormat& format, int64_t panel_columns);

  // Where k, a multiple of the step, is in a panel. A division takes as long as a part of a short tile, so that there
  // is none for the beginning.
  int64_t place_of(int64_t k) const { return levels.bytes + (k == 0 ? 0 : k / step * step_bytes); }
  int64_t expert_bytes() const { return panels * panel_bytes; }
  // The scales of a panel and the codes of k consecutive k, once expanded.
  int64_t expanded_bytes(int64_t k) const {
    return grid.absent() ? 0 : scales.bytes + k * code_bits / 8 * panel_columns;
  }
  // The scales of a panel and the codes of `count` consecutive k, where they are, or expanded.
  PanelParts parts(const Kernels& kernels, const char* panel, int64_t k, int64_t count, char* expanded) const {
    if (grid.absent()) return {panel, panel + place_of(k)};
    // Below their scales, both have the same.
    const int64_t at = levels.scales.at;
    std::memcpy(expanded, panel, static_cast<size_t>(at));
    kernels.expand_odd4(panel + at, levels.scales.groups / 2, expanded + at);
    kernels.expand_grids(grid.grid, panel + place_of(k), count / step, expanded + scales.bytes);
    return {expanded, expanded + scales.bytes};
  }
};

// Checks that a stored part has exactly `bytes` bytes, and its place.
Status check_part(const WeightPart& part, int64_t bytes);
// The same, and makes `buffer` refer to the part.
Status borrow_part(const WeightPart& part, int64_t bytes, Buffer& buffer);

class CpuPackedExperts final : public PackedExperts {
 public:
  static Status create(const ExpertProduct& weights, const Kernels& kernels, const Team& team, bool poison,
                       std::unique_ptr<CpuPackedExperts>* packed);
  // Packs panels while a product with plain weights multiplies them, one at a time.
  static Status borrowing(const ExpertProduct& weights, const Kernels& kernels, const Team& team,
                          std::unique_ptr<CpuPackedExperts>* packed);
  // Reads stored bytes in place; they must outlive it.
  static Status over(const WeightPart& stored, const ExpertProduct& weights, const Kernels& kernels, const Team& team,
                     std::unique_ptr<CpuPackedExperts>* packed);
  Status set_expert(int64_t expert, const WeightView& weight, const WeightView& up) override;
  Status copy_expert(int64_t expert, bool up, const TensorView& target) const override;
  size_t bytes() const override { return buffer_.bytes() + inputs_.bytes(); }
  bool borrows() const override { return !borrowed_.empty(); }
  // Packs a panel of an expert that is borrowed.
  void pack(int64_t expert, int64_t panel, char* target) const { pack(borrowed_[expert], panel, false, target); }

  // Checks weights that are read in place before they are first used; `part` must outlive this.
  void check_by(CheckedPart* part) { checked_ = part; }
  // Whether the weights of these experts are intact; before a product, those of its tiles.
  Status check(std::vector<int32_t> experts) const;
  Status check(const std::vector<RowTile>& tiles) const;

  const PanelLayout& layout() const { return layout_; }
  char* data() const { return buffer_.data(); }
  size_t panel_bytes() const { return buffer_.bytes(); }
  // Notes that a product begins to read an expert when products have read `bytes` in all, and returns what that was the
  // last time. For the thread that runs products.
  int64_t note_read(int64_t expert, int64_t bytes) const {
    return std::exchange(last_read_[static_cast<size_t>(expert)], bytes);
  }
  ExpertInputs& inputs() { return inputs_; }
  const ExpertInputs& inputs() const { return inputs_; }

 private:
  CpuPackedExperts(const ExpertProduct& weights, const PanelFormat& format, const Kernels& kernels, const Team& team)
      : PackedExperts(weights),
        format_(format),
        kernels_(kernels),
        team_(team),
        layout_(weights, format, kernels.panel_columns),
        inputs_(weights),
        last_read_(static_cast<size_t>(weights.experts)) {}
  static Status make(const ExpertProduct& weights, const Kernels& kernels, const Team& team,
                     std::unique_ptr<CpuPackedExperts>* packed);
  // An expert's matrix, or its gate and up.
  struct Source {
    std::optional<WeightReader> weight, up;
  };
  void pack(const Source& source, int64_t panel, bool streams, char* target) const;
  int64_t packed_bytes() const { return weights().experts * layout_.expert_bytes(); }
  // Rounded up and filled with zeros, so that whatever follows in a file is aligned too.
  int64_t stored_bytes() const { return round_up(packed_bytes(), kAlignment); }
  Status check_source(const WeightView& weight) const;
  Status copy_plain(int64_t expert, bool up, const TensorView& target) const;
  Status copy_coded(int64_t expert, bool up, const TensorView& target) const;

  const PanelFormat format_;
  const Kernels& kernels_;
  const Team& team_;
  PanelLayout layout_;
  Buffer buffer_;
  ExpertInputs inputs_;
  mutable std::vector<int64_t> last_read_;
  CheckedPart* checked_ = nullptr;
  std::vector<Source> borrowed_;  // of all experts, or empty
};

}  // namespace moe::cpu
