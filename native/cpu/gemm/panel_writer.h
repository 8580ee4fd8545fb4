// Writes panels. Rows and columns of their words are exchanged in registers.
#pragma once

#include <algorithm>
#include <cstring>

#include "core/divide.h"
#include "cpu/gemm/panel_format.h"
#include "cpu/gemm/weight_reader.h"

namespace moe::cpu {

class PanelWriter {
 public:
  // The most words and bytes of each column that are laid out at a time.
  static constexpr int64_t kMostWords = 16, kMostBytes = kMostWords * int64_t{sizeof(uint32_t)};
  // What is read of a column before the next column: enough for the processor to foresee the reads from memory, and so
  // little that all columns' stay in the second-level cache.
  static constexpr int64_t kRunBytes = 2048;
  // Those of all columns.
  struct Words {
    alignas(64) char bytes[kMostPanelColumns * kMostBytes];
  };

  PanelWriter(const PanelSource& source, char* panel)
      : kernels_(source.weight->kernels()), columns_(source.panel_columns), streams_(source.streams), panel_(panel) {}

  // Packs `bytes` bytes of each column. read(column, first, count, target) reads some of a column's; target has room
  // for whole pieces of `words` words. arrange(words, arranged) turns such pieces, [words, columns], into the bytes
  // that the panel has for them; it returns either the first, if these are the same, or the second. Whole pieces before
  // `begin` are there already.
  template <int64_t words, class Read, class Arrange>
  void pack_rows(int64_t bytes, Read&& read, Arrange&& arrange, int64_t begin = 0) const {
    constexpr int64_t kBytes = words * int64_t{sizeof(uint32_t)}, kColumnBytes = kRunBytes / kBytes * kBytes;
    // Not a power of two, so that the columns do not compete for the same lines of the cache.
    constexpr int64_t kStride = kColumnBytes + kMostBytes;
    alignas(64) char rows[kMostPanelColumns * kStride];
    Words transposed, arranged;
    for (int64_t first = begin; first < bytes; first += kColumnBytes) {
      const int64_t count = std::min(kColumnBytes, bytes - first);
      for (int64_t column = 0; column < columns_; ++column) read(column, first, count, rows + column * kStride);
      for (int64_t at = 0; at < count; at += kBytes) {
        kernels_.transpose_words(rows + at, kStride / int64_t{sizeof(uint32_t)}, columns_, kMostWords,
                                 transposed.bytes);
        store(first + at, std::min(kBytes, count - at), arrange(transposed, arranged).bytes);
      }
    }
  }

  // Packs `bytes` bytes of each column, in whole pieces of kMostBytes, from rows of memory that are `stride` bytes
  // apart and have them in the order of the panel. For panels that stay in the cache.
  void transpose_rows(const char* rows, int64_t stride, int64_t bytes) const {
    constexpr int64_t kSteps = kRunBytes / kMostBytes;
    // All columns' rows are too many streams for the processor to foresee, so each run of a row is fetched as one.
    const auto fetch = [&](int64_t column, int64_t first) {
      if (column >= columns_) return;
      const char* run = rows + column * stride + first;
      for (int64_t at = 0; at < std::min(kRunBytes, bytes - first); at += kMostBytes)
        __builtin_prefetch(run + at, 0, 2);
    };
    for (int64_t column = 0; column < columns_; ++column) fetch(column, 0);
    for (int64_t at = 0; at < bytes; at += kMostBytes) {
      kernels_.transpose_words(rows + at, stride / int64_t{sizeof(uint32_t)}, columns_, kMostWords,
                               panel_ + at * columns_);
      const int64_t step = at / kMostBytes % kSteps, each = ceil_divide(columns_, kSteps);
      for (int64_t i = 0; i < each; ++i) fetch(step * each + i, at / kRunBytes * kRunBytes + kRunBytes);
    }
  }

  // Moves bytes to the panel: `count` of each column, which are laid out as there, from the columns' byte `first` on.
  void store(int64_t first, int64_t count, const void* laid_out) const {
    const auto* from = static_cast<const char*>(laid_out);
    char* to = panel_ + first * columns_;
    const int64_t words = count / int64_t{sizeof(uint32_t)}, moved = words * int64_t{sizeof(uint32_t)} * columns_;
    kernels_.store_rows(reinterpret_cast<const float*>(from), static_cast<int>(words), columns_,
                        reinterpret_cast<float*>(to), columns_, streams_);
    std::memcpy(to + moved, from + moved, static_cast<size_t>(count * columns_ - moved));
  }

 private:
  const Kernels& kernels_;
  const int64_t columns_;
  const bool streams_;
  char* const panel_;
};

}  // namespace moe::cpu
