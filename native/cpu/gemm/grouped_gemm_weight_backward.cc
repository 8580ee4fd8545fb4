// The gradient of the grouped GEMM's weights: for each expert a product dy^T x, whose sums run over the expert's rows.
// The tile kernels multiply it as they do tokens and weights: columns of dy take the place of tokens, columns of x that
// of outputs, and k counts rows. So a row of dy is packed by runs of a tile's rows, and a row of x by runs of a panel's
// columns; where a tile has many k of a column together, rows of dy are transposed.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "cpu/gemm/interleave.h"
#include "cpu/gemm/product.h"
#include "cpu/gemm/streams.h"
#include "cpu/operators.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {
namespace {

// Columns of dy that are packed at a time. A packed column of x is used for all of them.
constexpr int64_t kOutputs = 448;
// Panels of x that are packed at a time.
constexpr int64_t kPanels = 4;
// Bytes of rows that a packed column has: all packed columns stay in a core's second-level cache.
constexpr int64_t kColumnBytes = 1024;
constexpr int64_t kMostRows = kColumnBytes / 2;
// Pieces of work for each thread, to even out the end.
constexpr int64_t kPiecesPerThread = 16;

// Copies a run of a few values, for which a call of memcpy would take longer than the copy.
inline void copy_run(const float* source, int64_t count, float* target) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) std::memcpy(target + i, source + i, 4 * sizeof(float));
  for (; i < count; ++i) target[i] = source[i];
}

// A rectangle of one expert's gradient.
struct Piece {
  int64_t expert;
  int64_t first_output, outputs;  // rows of the gradient, columns of dy
  int64_t first_column, columns;
};

class WeightGradient {
 public:
  WeightGradient(const Context& context, const GroupedGemmWeightBackward& p, const int32_t* offsets)
      : kernels_(context.kernels),
        threads_(context.team.threads),
        p_(p),
        offsets_(offsets),
        outputs_(p.dy.shape[1]),
        columns_(p.x.shape[1]) {
    // Bfloat16 is multiplied as it is, where the CPU can; everything else is float32.
    const GemmKernel* halves = choose_gemm(kernels_.gemm, DType::bf16, kBF16Format);
    const bool multiplied = halves != nullptr && (halves->arithmetic == Arithmetic::bf16_pairs ||
                                                  halves->arithmetic == Arithmetic::bf16_tiles);
    const bool both = p.x.dtype == DType::bf16 && p.dy.dtype == DType::bf16;
    gemm_ = both && multiplied ? halves : choose_gemm(kernels_.gemm, DType::f32, kF32Format);
    group_ = k_group(gemm_->arithmetic);
    block_rows_ = kColumnBytes / element_bytes(gemm_->arithmetic);
    streams_ = !p.accumulate && are_streamed(p.d_weight.size() * int64_t{sizeof(float)});
  }

  // Work on an expert with many rows is cut into more pieces, between columns.
  std::vector<Piece> pieces() const {
    std::vector<Piece> all;
    const int64_t experts = p_.d_weight.shape[0];
    if (outputs_ == 0 || columns_ == 0) return all;
    const int64_t blocks = ceil_divide(outputs_, kOutputs);
    const int64_t block = round_up(ceil_divide(outputs_, blocks), gemm_->max_rows);
    const int64_t unit = kPanels * kernels_.panel_columns;
    const double rows = std::max(1, offsets_[experts] - offsets_[0]);
    for (int64_t expert = 0; expert < experts; ++expert) {
      const double wanted =
          static_cast<double>(threads_ * kPiecesPerThread) * static_cast<double>(rows_of(expert)) / rows;
      const int64_t ranges = std::clamp<int64_t>(static_cast<int64_t>(wanted) / blocks, 1, ceil_divide(columns_, unit));
      const int64_t range = round_up(ceil_divide(columns_, ranges), unit);
      for (int64_t output = 0; output < outputs_; output += block) {
        for (int64_t column = 0; column < columns_; column += range) {
          all.push_back({.expert = expert,
                         .first_output = output,
                         .outputs = std::min(block, outputs_ - output),
                         .first_column = column,
                         .columns = std::min(range, columns_ - column)});
        }
      }
    }
    return all;
  }

  Work work() const {
    const double rows = p_.dy.shape[0], size = static_cast<double>(outputs_) * static_cast<double>(columns_);
    return {.bytes = 4.0 * size * static_cast<double>(p_.d_weight.shape[0]), .operations = 2.0 * rows * size};
  }

  // Bytes that one thread needs.
  int64_t scratch_bytes() const {
    return (kOutputs + kMaxTileRows + kPanels * kMostPanelColumns) * kColumnBytes +
           kMaxTileRows * kMostPanelColumns * 4;
  }

  // After a thread's last piece.
  void end() const {
    if (gemm_->release != nullptr) gemm_->release();
    kernels_.end_streams();
  }

  void compute(const Piece& piece, char* scratch) const {
    const int64_t rows = rows_of(piece.expert);
    if (rows == 0 && !p_.accumulate) {
      for (int64_t i = 0; i < piece.outputs; ++i) std::fill_n(gradient(piece, i, 0), piece.columns, 0.0f);
    }
    char* tiles = scratch;
    char* panels = tiles + (kOutputs + kMaxTileRows) * kColumnBytes;
    auto* sums = reinterpret_cast<float*>(panels + kPanels * kMostPanelColumns * kColumnBytes);
    const int64_t unit = kPanels * kernels_.panel_columns;
    for (int64_t first = 0; first < rows; first += block_rows_) {
      const Rows block{.first = offsets_[piece.expert] + first, .count = std::min(block_rows_, rows - first)};
      const bool adds = first > 0 || p_.accumulate;
      pack_tiles(piece, block, tiles);
      for (int64_t column = 0; column < piece.columns; column += unit) {
        const int64_t count = std::min(unit, piece.columns - column);
        pack_panels(block, piece.first_column + column, count, panels);
        multiply(piece, block, column, count, adds, tiles, panels, sums);
      }
    }
  }

 private:
  // Some rows of one expert.
  struct Rows {
    int64_t first, count;
  };

  int64_t rows_of(int64_t expert) const { return offsets_[expert + 1] - offsets_[expert]; }
  int64_t padded(const Rows& rows) const { return round_up(rows.count, group_); }
  // Bytes of a packed column.
  int64_t column_bytes(const Rows& rows) const { return padded(rows) * element_bytes(gemm_->arithmetic); }
  float* gradient(const Piece& piece, int64_t output, int64_t column) const {
    return p_.d_weight.as<float>() + (piece.expert * outputs_ + piece.first_output + output) * columns_ +
           piece.first_column + column;
  }

  // The row of x that row `row` of dy belongs to; -1 if it has no token.
  int64_t token(int64_t row) const {
    return p_.token_of_row.absent() ? row : index_or_none(p_.token_of_row.as<const int32_t>()[row], p_.x.shape[0]);
  }

  // Calls use(tile's first output, its rows) for tiles that are as even as possible.
  template <class Use>
  void for_each_tile(int64_t outputs, Use&& use) const {
    const int64_t count = ceil_divide(outputs, gemm_->max_rows);
    for (int64_t tile = 0, first = 0; tile < count; ++tile) {
      const int64_t rows = outputs / count + (tile < outputs % count ? 1 : 0);
      use(first, rows);
      first += rows;
    }
  }

  // Where rows begin. Zeros stand for a row without a token, and fill up the last group.
  using Sources = std::array<const void*, kMostRows>;
  template <class RowOf>
  Sources sources(const Rows& rows, RowOf&& row_of) const {
    Sources all;
    const int64_t padded_rows = padded(rows);
    for (int64_t i = 0; i < padded_rows; ++i) {
      const bool exists = i < rows.count && token(rows.first + i) >= 0;
      all[i] = exists ? row_of(rows.first + i) : static_cast<const void*>(kZeros);
    }
    return all;
  }

  void pack_tiles(const Piece& piece, const Rows& rows, char* tiles) const {
    const Sources from = sources(rows, [&](int64_t row) { return p_.dy.at(row, piece.first_output); });
    const int64_t padded_rows = padded(rows), bytes = column_bytes(rows);
    if (is_tiles(gemm_->arithmetic)) {
      for (int64_t i = 0; i < padded_rows; i += group_) {
        for_each_tile(piece.outputs, [&](int64_t first, int64_t count) {
          kernels_.pack_tile_transposed(from.data() + i, first, static_cast<int>(count),
                                        tiles + first * bytes + i * count * element_bytes(gemm_->arithmetic));
        });
      }
      return;
    }
    pack(from, padded_rows, p_.dy.dtype, piece.outputs, [&](auto&& store) {
      for_each_tile(piece.outputs,
                    [&](int64_t first, int64_t count) { store(first, count, count, tiles + first * bytes); });
    });
  }

  // Columns after the last one are zeros.
  void pack_panels(const Rows& rows, int64_t column, int64_t columns, char* panels) const {
    const int64_t width = kernels_.panel_columns, bytes = column_bytes(rows);
    if (columns % width != 0) {
      std::memset(panels + columns / width * width * bytes, 0, static_cast<size_t>(width * bytes));
    }
    const Sources from = sources(rows, [&](int64_t row) { return p_.x.at(token(row), column); });
    pack(from, padded(rows), p_.x.dtype, columns, [&](auto&& store) {
      for (int64_t first = 0; first < columns; first += width) {
        store(first, std::min(width, columns - first), width, panels + first * bytes);
      }
    });
  }

  // Packs `columns` columns of the rows in runs, which for_each_run(store) lists: store(first column, columns, width of
  // the tile or panel, its beginning).
  template <class Runs>
  void pack(const Sources& from, int64_t rows, DType dtype, int64_t columns, Runs&& for_each_run) const {
    if (gemm_->arithmetic != Arithmetic::f32) {
      for (int64_t i = 0; i < rows; i += 2) {
        const auto* even = static_cast<const uint16_t*>(from[i]);
        const auto* odd = static_cast<const uint16_t*>(from[i + 1]);
        for_each_run([&](int64_t first, int64_t count, int64_t width, char* target) {
          interleave(even + first, odd + first, count, reinterpret_cast<uint16_t*>(target) + i * width);
        });
      }
      return;
    }
    alignas(64) float line[kOutputs + kMaxTileRows];
    for (int64_t i = 0; i < rows; ++i) {
      const auto* values = static_cast<const float*>(from[i]);
      if (dtype != DType::f32 && values != kZeros) {
        kernels_.to_f32(dtype, from[i], columns, line);
        values = line;
      }
      for_each_run([&](int64_t first, int64_t count, int64_t width, char* target) {
        copy_run(values + first, count, reinterpret_cast<float*>(target) + i * width);
      });
    }
  }

  // The gradient's columns from `column` on: the sums over these rows go on from what it holds if `adds`.
  void multiply(const Piece& piece, const Rows& rows, int64_t column, int64_t columns, bool adds, const char* tiles,
                const char* panels, float* sums) const {
    // Not what the next rows are added to.
    const bool streams = streams_ && rows_of(piece.expert) <= block_rows_;
    const int64_t width = kernels_.panel_columns, bytes = column_bytes(rows);
    // All tiles read a panel from the first-level cache.
    for (int64_t first = 0; first < columns; first += width) {
      const int64_t count = std::min(width, columns - first);
      for_each_tile(piece.outputs, [&](int64_t first_output, int64_t outputs) {
        float* target = gradient(piece, first_output, column + first);
        // The last panel's columns may be fewer.
        const bool apart = streams || count < width;
        if (!apart) {
          for (int64_t i = 0; i < outputs; ++i) {
            for (int64_t c = 0; c < count; c += 16) __builtin_prefetch(target + i * columns_ + c, 1);
          }
        } else if (adds) {
          for (int64_t i = 0; i < outputs; ++i) copy_run(target + i * columns_, count, sums + i * width);
        }
        gemm_->tile[outputs]({.first_k = 0,
                              .k = padded(rows),
                              .rows = static_cast<int>(outputs),
                              .x = tiles + first_output * bytes,
                              .w = panels + first * bytes,
                              .c = apart ? sums : target,
                              .accumulate = adds,
                              .c_stride = apart ? width : columns_,
                              .scales = nullptr,
                              .panel = nullptr,
                              .x_sums = nullptr});
        if (apart) kernels_.store_rows(sums, static_cast<int>(outputs), count, target, columns_, streams);
      });
    }
  }

  alignas(64) static constexpr float kZeros[kOutputs + kMaxTileRows] = {};

  const Kernels& kernels_;
  int threads_;
  const GroupedGemmWeightBackward& p_;
  const int32_t* offsets_;
  int64_t outputs_, columns_;
  const GemmKernel* gemm_;
  int64_t group_;       // consecutive rows that are packed together
  int64_t block_rows_;  // that are packed at a time
  bool streams_;        // whether the gradient is written past the caches
};

// Some columns of an expert's dBias, block of rows by block.
void add_up_rows(const Kernels& kernels, const GroupedGemmWeightBackward& p, int64_t expert, int64_t begin, int64_t end,
                 int64_t first_column, int64_t columns) {
  const int64_t outputs = p.dy.shape[1];
  float* sums = p.d_bias.as<float>() + expert * outputs + first_column;
  if (!p.accumulate) std::fill_n(sums, columns, 0.0f);
  const void* rows[kBiasGradientRows];
  float ones[kBiasGradientRows], line[kOutputs];
  std::fill_n(ones, kBiasGradientRows, 1.0f);
  for (int64_t first = begin; first < end; first += kBiasGradientRows) {
    const int64_t count = std::min<int64_t>(kBiasGradientRows, end - first);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = first + i;
      const bool exists =
          p.token_of_row.absent() || index_or_none(p.token_of_row.as<const int32_t>()[row], p.x.shape[0]) >= 0;
      rows[i] = exists ? p.dy.at(row, first_column) : nullptr;
    }
    kernels.combine(p.dy.dtype, rows, ones, static_cast<int32_t>(count), columns, line);
    for (int64_t c = 0; c < columns; ++c) sums[c] += line[c];
  }
}

}  // namespace

Status run(Context& context, const GroupedGemmWeightBackward& p) {
  const int64_t rows = p.dy.shape[0], outputs = p.dy.shape[1], experts = p.d_weight.shape[0];
  std::vector<int32_t> offsets;
  Status status = check_offsets("groupedGemmWeightBackward: offsets", p.offsets, rows, &offsets);
  if (!p.token_of_row.absent()) {
    Status tokens = check_indices("groupedGemmWeightBackward: tokenOfRow", p.token_of_row, p.x.shape[0]);
    if (status.ok()) status = std::move(tokens);
  }

  const WeightGradient gradient(context, p, offsets.data());
  const std::vector<Piece> pieces = gradient.pieces();
  const int64_t bytes = gradient.scratch_bytes();
  char* scratch = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) { scratch = arena.take<char>(context.team.threads * bytes); }));
  context.queue.reset(std::ssize(pieces));
  context.team.share(std::ssize(pieces), gradient.work(), [&](const Worker& worker) {
    for (int64_t i; (i = context.queue.next(worker.index)) >= 0;) {
      gradient.compute(pieces[i], scratch + worker.index * bytes);
    }
    gradient.end();
  });

  if (p.d_bias.absent()) return status;
  const int64_t ranges = ceil_divide(outputs, kOutputs);
  const Work sums{.bytes = 4.0 * static_cast<double>(p.dy.size()), .operations = 0};
  context.queue.reset(experts * ranges);
  context.team.share(experts * ranges, sums, [&](const Worker& worker) {
    for (int64_t i; (i = context.queue.next(worker.index)) >= 0;) {
      const int64_t expert = i / ranges, column = i % ranges * kOutputs;
      add_up_rows(context.kernels, p, expert, offsets[expert], offsets[expert + 1], column,
                  std::min(kOutputs, outputs - column));
    }
  });
  return status;
}

}  // namespace moe::cpu
