#include <algorithm>

#include "core/divide.h"
#include "cpu/operators.h"

namespace moe::cpu {

namespace {

// Columns first .. first + count - 1 of an activation's outputs in one row.
struct Piece {
  int64_t row, first, count;
};

template <class Function>
void for_each_piece(const Context& context, int64_t rows, int64_t outputs, Function&& function) {
  constexpr int64_t kPiecesAtOnce = 16;
  const int64_t pieces = ceil_divide(outputs, ActivationColumns::kMost);
  context.team.for_range(rows * pieces, kPiecesAtOnce, [&](int64_t begin, int64_t end) {
    ActivationColumns columns;
    // What an activation without a gate, or without a multiplier, is multiplied by.
    std::fill_n(columns.up, ActivationColumns::kMost, 1.0f);
    std::fill_n(columns.multiplier, ActivationColumns::kMost, 1.0f);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % pieces * ActivationColumns::kMost;
      function(columns, Piece{i / pieces, first, std::min(ActivationColumns::kMost, outputs - first)});
    }
  });
}

// Where a piece lies in a tensor whose rows have it `offset` columns later.
char* place(const TensorView& tensor, const Piece& piece, int64_t offset = 0) {
  return tensor.at(piece.row, offset + piece.first);
}

void load(const Kernels& kernels, const TensorView& tensor, const Piece& piece, float* values, int64_t offset = 0) {
  if (!tensor.absent()) kernels.to_f32(tensor.dtype, place(tensor, piece, offset), piece.count, values);
}

void store(const Kernels& kernels, const float* values, const TensorView& tensor, const Piece& piece,
           int64_t offset = 0) {
  if (!tensor.absent()) kernels.from_f32(tensor.dtype, values, piece.count, place(tensor, piece, offset));
}

// The clamp of a row: that of the shared experts from their first row on.
template <class Operator>
const Clamp& clamp_of(const Operator& p, int64_t row) {
  const int32_t* first_shared = first_shared_row(p.offsets, p.shared_experts);
  return first_shared != nullptr && row >= *first_shared ? p.shared_clamp : p.clamp;
}

}  // namespace

Status run(Context& context, const Activate& p) {
  const Kernels& kernels = context.kernels;
  const int64_t outputs = p.inner.shape[1];
  for_each_piece(context, p.inner.shape[0], outputs, [&](ActivationColumns& columns, const Piece& piece) {
    load(kernels, p.pre, piece, columns.gate);
    if (is_gated(p.activation)) load(kernels, p.pre, piece, columns.up, outputs);
    load(kernels, p.multiplier, piece, columns.multiplier);
    kernels.activate_columns(p.activation, clamp_of(p, piece.row), piece.count, columns);
    store(kernels, columns.inner, p.inner, piece);
  });
  return {};
}

Status run(Context& context, const ActivationBackward& p) {
  const Kernels& kernels = context.kernels;
  const int64_t outputs = p.d_inner.shape[1];
  for_each_piece(context, p.d_inner.shape[0], outputs, [&](ActivationColumns& columns, const Piece& piece) {
    load(kernels, p.pre, piece, columns.gate);
    if (is_gated(p.activation)) load(kernels, p.pre, piece, columns.up, outputs);
    load(kernels, p.multiplier, piece, columns.multiplier);
    load(kernels, p.d_inner, piece, columns.d_inner);
    kernels.differentiate_columns(p.activation, clamp_of(p, piece.row), piece.count, columns);
    store(kernels, columns.d_gate, p.d_pre, piece);
    if (is_gated(p.activation)) store(kernels, columns.d_up, p.d_pre, piece, outputs);
    store(kernels, columns.d_multiplier, p.d_multiplier, piece);
    store(kernels, columns.inner, p.inner, piece);
  });
  return {};
}

}  // namespace moe::cpu
