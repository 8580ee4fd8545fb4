#include <algorithm>
#include <utility>
#include <vector>

#include "check.h"
#include "cpu/gemm/prefetch_shares.h"

namespace {

using namespace moe::cpu;

// What is prefetched.
const std::vector<char> bytes_of_panel(65536);

int64_t offset_of(const PrefetchLines& lines, int index) {
  return lines.line(lines.begin + index) - bytes_of_panel.data();
}

MOE_TEST(calls_that_share_prefetches_bring_each_line_once) {
  for (const int64_t bytes : {0, 64, 4096, 4096 + 128, 30720, 32768, 65536}) {
    for (const int most_streams : {1, 2, 8}) {
      for (const int64_t shares : {1, 3, 5, 64}) {
        PrefetchShares prefetches(bytes_of_panel.data(), bytes, most_streams, shares);
        std::vector<int> times(static_cast<size_t>(bytes / 64), 0);
        int streams = 0;
        for (int64_t share = 0; share < shares; ++share) {
          PrefetchLines lines;
          prefetches.take(lines);
          streams = 1 << lines.stream_bits;
          for (int i = 0; i < lines.count; ++i) {
            const int64_t offset = offset_of(lines, i);
            MOE_CHECK(offset % 64 == 0 && offset < bytes);
            ++times[static_cast<size_t>(offset / 64)];
          }
        }
        MOE_CHECK(streams <= most_streams && (streams == 1 || bytes / streams >= 4096));
        // Streams are of one length, so the last lines of all may be left out.
        const auto brought = std::ranges::count(times, 1);
        MOE_CHECK_EQUAL(brought, bytes / 64 / streams * streams);
        MOE_CHECK_EQUAL(std::ranges::count(times, 0), std::ssize(times) - brought);
      }
    }
  }
}

MOE_TEST(streams_take_turns) {
  PrefetchShares prefetches(bytes_of_panel.data(), 4 * 4096, 8, 2);
  PrefetchLines first, second;
  prefetches.take(first);
  prefetches.take(second);
  for (const auto& [index, expected] : std::vector<std::pair<int, int64_t>>{{0, 0}, {1, 4096}, {3, 12288}, {4, 64}}) {
    MOE_CHECK_EQUAL(offset_of(first, index), expected);
  }
  MOE_CHECK_EQUAL(offset_of(second, 0), 2048);
}

}  // namespace
