// Packers for plain formats.
#include "core/formats/dequantize.h"
#include "cpu/gemm/interleave.h"
#include "cpu/gemm/panel_writer.h"

namespace moe::cpu {

namespace {

// How many inputs ahead are fetched. The processor does not foresee them, as they are far apart.
constexpr int64_t kInputsAhead = 16;

// `group` elements of a column lie next to each other in a panel.
template <class Element, int group>
class PlainPacker {
 public:
  PlainPacker(DType dtype, const PanelSource& source, char* panel)
      : dtype_(dtype), source_(source), columns_(source.panel_columns), writer_(source, panel) {}

  void pack() const {
    const bool by_inputs =
        source_.weight->stored_by_inputs() && (source_.up == nullptr || source_.up->stored_by_inputs());
    by_inputs ? pack_inputs() : pack_rows();
  }

 private:
  using Words = PanelWriter::Words;
  static constexpr int64_t kElementBytes = sizeof(Element), kAtOnce = PanelWriter::kMostBytes / kElementBytes;
  // Whether what lies next to each other in a panel is a word.
  static constexpr bool kWholeWords = group * kElementBytes == sizeof(uint32_t);

  // From a weight that is stored row by row.
  void pack_rows() const {
    const auto read = [this](int64_t column, int64_t first, int64_t bytes, char* target) {
      source_.reader(column).read(dtype_, source_.row(column), first / kElementBytes, bytes / kElementBytes, target);
    };
    writer_.pack_rows<PanelWriter::kMostWords>(
        source_.padded_k * kElementBytes, read,
        [&](const Words& words, Words& arranged) -> const Words& {
          if constexpr (kWholeWords) {
            return words;
          } else {
            split(elements(words), elements(arranged));
            return arranged;
          }
        },
        transpose_rows());
  }

  // Packs as much as rows of the same dtype have in whole pieces, without copying them first. Returns how many bytes of
  // each column that is.
  int64_t transpose_rows() const {
    const WeightView& weight = source_.weight->weight();
    const MatrixView& codes = weight.codes;
    const int64_t stride = codes.row_stride * kElementBytes, first = source_.row(0);
    const bool whole = source_.up == nullptr && elements_are_codes(weight) && codes.dtype == dtype_ &&
                       codes.column_stride == 1 && stride % int64_t{sizeof(uint32_t)} == 0 &&
                       first + columns_ <= std::min(weight.rows, source_.outputs);
    if (!kWholeWords || !whole || source_.streams) return 0;
    const int64_t bytes = weight.columns * kElementBytes / PanelWriter::kMostBytes * PanelWriter::kMostBytes;
    writer_.transpose_rows(static_cast<const char*>(codes.data) + first * stride, stride, bytes);
    return bytes;
  }

  // From pairs to rows of their first and second elements.
  void split(const Element* pairs, Element* rows) const {
    for (int64_t k = 0; k < kAtOnce; k += 2, pairs += 2 * columns_) {
      for (int64_t i = 0; i < 2; ++i, rows += columns_) {
        for (int64_t column = 0; column < columns_; ++column) rows[column] = pairs[2 * column + i];
      }
    }
  }

  // From a weight that is stored input by input, as the transposed matrices of backward are.
  void pack_inputs() const {
    Words words;
    for (int64_t first = 0; first < source_.padded_k; first += kAtOnce) {
      const int64_t count = std::min(kAtOnce, source_.padded_k - first);
      for (int64_t i = 0; i < count; i += group) {
        Element* row = elements(words) + i * columns_;
        if constexpr (group == 1) {
          read_input(first + i, row);
        } else {
          Element even[kMostPanelColumns], odd[kMostPanelColumns];
          read_input(first + i, even);
          read_input(first + i + 1, odd);
          interleave(even, odd, columns_, row);
        }
      }
      writer_.store(first * kElementBytes, count * kElementBytes, words.bytes);
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

  static Element* elements(Words& words) { return reinterpret_cast<Element*>(words.bytes); }
  static const Element* elements(const Words& words) { return reinterpret_cast<const Element*>(words.bytes); }

  const DType dtype_;
  const PanelSource& source_;
  const int64_t columns_;
  const PanelWriter writer_;
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
