// Expert weights as the CPU reads them: panels of columns, so that a thread streams one contiguous piece of memory.
#pragma once

#include "core/backend.h"
#include "cpu/isa/kernels.h"
#include "cpu/runtime/memory.h"
#include "cpu/runtime/team.h"

namespace moe::cpu {

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
constexpr int64_t ceil_divide(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

// One expert's weight [rows, columns] (outputs x k) is cut into panels of panel_columns outputs; element (k, column) of
// a panel is at [k / group][column][k % group]. A gated panel holds panel_columns / 2 gate columns, then the up columns
// of the same outputs. What is missing in the last panel and behind the last k is zero.
struct PanelLayout {
  // Raise it where the same weights become other bytes: packed weights are kept in files.
  static constexpr int kVersion = 1;

  int64_t panel_columns = 0;
  int64_t outputs_per_panel = 0;
  int64_t panels = 0;
  int64_t padded_k = 0;
  int64_t element_bytes = 0;

  PanelLayout() = default;
  PanelLayout(const ExpertProduct& weights, int64_t panel_columns);

  int64_t row_bytes() const { return panel_columns * element_bytes; }
  int64_t panel_bytes() const { return padded_k * row_bytes(); }
  int64_t expert_bytes() const { return panels * panel_bytes(); }
};

// Elements first .. first + count of one row of a matrix, as float32.
void read_row(const Kernels& kernels, const MatrixView& source, int64_t row, int64_t first, int64_t count,
              float* values);

// Lets `buffer` refer to a stored part, which must have exactly `bytes` bytes.
Status borrow_part(const WeightPart& part, int64_t bytes, Buffer& buffer);

class CpuPackedExperts final : public PackedExperts {
 public:
  static Status create(const ExpertProduct& weights, const Kernels& kernels, const Team& team, bool poison,
                       std::unique_ptr<CpuPackedExperts>* packed);
  // Over the stored bytes of others, which are only read.
  static Status over(const WeightPart& stored, const ExpertProduct& weights, const Kernels& kernels, const Team& team,
                     std::unique_ptr<CpuPackedExperts>* packed);
  Status set_expert(int64_t expert, const WeightView& weight, const WeightView& up) override;
  size_t bytes() const override { return buffer_.bytes(); }

  const PanelLayout& layout() const { return layout_; }
  char* data() const { return buffer_.data(); }

 private:
  CpuPackedExperts(const ExpertProduct& weights, const Kernels& kernels, const Team& team)
      : PackedExperts(weights), kernels_(kernels), team_(team), layout_(weights, kernels.panel_columns) {}
  int64_t packed_bytes() const { return weights().experts * layout_.expert_bytes(); }
  // Rounded up, with zeros, so that what a file has behind these weights is aligned too.
  int64_t stored_bytes() const { return round_up(packed_bytes(), kAlignment); }
  void pack_panel(int64_t panel, const WeightView& weight, const WeightView& up, char* target) const;

  const Kernels& kernels_;
  const Team& team_;
  PanelLayout layout_;
  Buffer buffer_;
};

}  // namespace moe::cpu
