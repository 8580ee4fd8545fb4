// Reads the rows of a weight in any format, in the order of its inputs.
#pragma once

#include <vector>

#include "core/formats/weight_view.h"
#include "cpu/isa/kernels.h"

namespace moe::cpu {

// Elements first .. first + count - 1 of one row of a matrix, as float32.
void read_row(const Kernels& kernels, const MatrixView& source, int64_t row, int64_t first, int64_t count,
              float* values);

class WeightReader {
 public:
  WeightReader(const Kernels& kernels, const WeightView& weight);

  const Kernels& kernels() const { return kernels_; }
  const WeightView& weight() const { return weight_; }
  // Elements of inputs first .. first + count - 1 of one row, converted to a plain dtype. Rows and columns that the
  // weight lacks, and inputs that its order does not name, are zeros. Elements already stored in that dtype are moved
  // bit by bit.
  void read(DType dtype, int64_t row, int64_t first, int64_t count, void* values) const;
  // Whether a matrix of floats is stored input by input.
  bool stored_by_inputs() const;
  // Elements of rows first .. first + count - 1 of one input, as read(); for a matrix that is stored by inputs.
  void read_input(DType dtype, int64_t input, int64_t first, int64_t count, void* values) const;
  // Fetches what read_input() will read.
  void prefetch_input(int64_t input, int64_t first, int64_t count) const;

 private:
  void dequantize_row(int64_t row, int64_t first, int64_t count, float* values) const;

  const Kernels& kernels_;
  WeightView weight_;
  bool elements_are_codes_;
  std::vector<int32_t> column_of_input_;  // empty: column = input; -1: none
};

}  // namespace moe::cpu
