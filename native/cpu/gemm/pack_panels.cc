// Packers for plain formats.
#include <algorithm>
#include <cstring>

#include "cpu/gemm/interleave.h"
#include "cpu/gemm/panel_format.h"
#include "cpu/gemm/weight_reader.h"

namespace moe::cpu {

namespace {

// Of each column, what is read before the next column: enough for the processor to foresee the reads from memory, and
// so little that all columns' stay in the second-level cache.
constexpr int64_t kColumnBytes = 2048;
// Words of each column that are laid out at a time.
constexpr int64_t kWords = 16;
// How many inputs ahead are fetched. The processor does not foresee them, as they are far apart.
constexpr int64_t kInputsAhead = 16;

// `group` elements of a column lie next to each other in a panel.
template <class Element, int group>
class PlainPacker {
 public:
  PlainPacker(DType dtype, const PanelSource& source, char* panel)
      : dtype_(dtype), source_(source), columns_(source.panel_columns), panel_(reinterpret_cast<Element*>(panel)) {}

  void pack() {
    const bool by_inputs =
        source_.weight->stored_by_inputs() && (source_.up == nullptr || source_.up->stored_by_inputs());
    by_inputs ? pack_inputs() : pack_rows();
  }

 private:
  static constexpr int64_t kPerWord = sizeof(uint32_t) / sizeof(Element), kAtOnce = kWords * kPerWord;

  // From a weight that is stored row by row: one column of the panel after the other.
  void pack_rows() {
    constexpr int64_t kElements = kColumnBytes / sizeof(Element);
    // Not a power of two, so that the columns do not compete for the same lines of the cache.
    constexpr int64_t kStride = kElements + kAtOnce;
    alignas(64) Element rows[kMostPanelColumns * kStride] = {};
    for (int64_t first = 0; first < source_.padded_k; first += kElements) {
      const int64_t count = std::min(kElements, source_.padded_k - first);
      for (int64_t column = 0; column < columns_; ++column) {
        source_.reader(column).read(dtype_, source_.row(column), first, count, rows + column * kStride);
      }
      for (int64_t k = 0; k < count; k += kAtOnce) {
        lay_out(rows + k, kStride / kPerWord);
        store(first + k, std::min(kAtOnce, count - k));
      }
    }
  }

  void lay_out(const Element* rows, int64_t stride) {
    const auto transpose = source_.weight->kernels().transpose_words;
    if constexpr (group == kPerWord) {
      transpose(rows, stride, columns_, kWords, laid_out_);
    } else {
      Element pairs[kMostPanelColumns * kAtOnce];
      transpose(rows, stride, columns_, kWords, pairs);
      for (int64_t k = 0; k < kAtOnce; k += 2) {
        const Element* both = pairs + k * columns_;
        for (int64_t i = 0; i < 2; ++i) {
          Element* row = laid_out_ + (k + i) * columns_;
          for (int64_t column = 0; column < columns_; ++column) row[column] = both[2 * column + i];
        }
      }
    }
  }

  // From a weight that is stored input by input, as the transposed matrices of backward are.
  void pack_inputs() {
    for (int64_t first = 0; first < source_.padded_k; first += kAtOnce) {
      const int64_t count = std::min(kAtOnce, source_.padded_k - first);
      for (int64_t i = 0; i < count; i += group) {
        Element* row = laid_out_ + i * columns_;
        if constexpr (group == 1) {
          read_input(first + i, row);
        } else {
          Element even[kMostPanelColumns], odd[kMostPanelColumns];
          read_input(first + i, even);
          read_input(first + i + 1, odd);
          interleave(even, odd, columns_, row);
        }
      }
      store(first, count);
    }
  }

  // Element k of all columns.
  void read_input(int64_t k, Element* elements) const {
    const int64_t half = source_.half();
    for (const WeightReader* reader : {source_.weight, source_.up}) {
      if (reader == nullptr) return;
      reader->prefetch_input(k + kInputsAhead, source_.first_row, half);
      reader->read_input(dtype_, k, source_.first_row, half, elements);
      elements += half;
    }
  }

  // Moves what is laid out, `count` k from k on, to the panel.
  void store(int64_t k, int64_t count) const {
    Element* target = panel_ + k * columns_;
    const int64_t rows = count / kPerWord, moved = rows * kPerWord * columns_;
    source_.weight->kernels().store_rows(reinterpret_cast<const float*>(laid_out_), static_cast<int>(rows), columns_,
                                         reinterpret_cast<float*>(target), columns_, source_.streams);
    std::copy(laid_out_ + moved, laid_out_ + count * columns_, target + moved);
  }

  const DType dtype_;
  const PanelSource& source_;
  const int64_t columns_;
  Element* const panel_;
  alignas(64) Element laid_out_[kMostPanelColumns * kAtOnce];
};

}  // namespace

void pack_f32_panel(const PanelSource& source, char* panel) {
  PlainPacker<uint32_t, 1>(DType::f32, source, panel).pack();
}
void pack_f16_panel(const PanelSource& source, char* panel) {
  PlainPacker<uint16_t, 1>(DType::f16, source, panel).pack();
}
void pack_bf16_panel(const PanelSource& source, char* panel) {
  PlainPacker<uint16_t, 2>(DType::bf16, source, panel).pack();
}

}  // namespace moe::cpu
