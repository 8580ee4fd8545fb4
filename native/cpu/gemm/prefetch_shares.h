// What the tiles of a panel prefetch.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cpu/gemm/gemm_kernel.h"
#include "cpu/gemm/panel_scales.h"

namespace moe::cpu {

// The lines of memory that several calls prefetch together: each takes the next of equal shares.
class PrefetchShares {
 public:
  PrefetchShares() = default;
  // In at most `most_streams` streams, each of at least a page.
  PrefetchShares(const char* first, int64_t bytes, int most_streams, int64_t shares)
      : shares_(static_cast<int>(shares)) {
    constexpr int64_t kPage = 4096;
    const auto streams = static_cast<uint64_t>(std::clamp<int64_t>(bytes / kPage, 1, most_streams));
    const int bits = std::bit_width(streams) - 1, stream_lines = static_cast<int>(bytes / kLineBytes >> bits);
    first_ = first;
    stream_bytes_ = stream_lines * kLineBytes;
    stream_bits_ = bits;
    lines_ = stream_lines << bits;
  }

  // What the next call prefetches. Member by member: a copy of lines that were just written waits for them.
  void take(PrefetchLines& lines) {
    begin_ += count_;
    left_ += lines_;
    count_ = left_ / shares_;
    left_ -= count_ * shares_;
    lines.first = first_;
    lines.stream_bytes = stream_bytes_;
    lines.stream_bits = stream_bits_;
    lines.begin = begin_;
    lines.count = count_;
  }

 private:
  const char* first_ = nullptr;
  int64_t stream_bytes_ = 0;
  int stream_bits_ = 0, begin_ = 0, count_ = 0;
  int lines_ = 0, shares_ = 1;
  int left_ = 0;  // of what calls should have taken, times the shares
};

}  // namespace moe::cpu
