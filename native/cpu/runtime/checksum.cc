#include "cpu/runtime/checksum.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/divide.h"

namespace moe::cpu {

namespace {

// Independent lanes let the multiplications overlap, so that memory is the limit.
constexpr size_t kLanes = 8;
constexpr size_t kStripe = kLanes * sizeof(uint64_t);
// Threads take blocks of units.
constexpr size_t kBlock = size_t{1} << 20;

// A bijection of `sum` for each word, and of `word` for each sum: no step loses a difference.
uint64_t add(uint64_t sum, uint64_t word) { return std::rotl((sum ^ word) * 0x9e3779b97f4a7c15ULL, 29); }

void add_stripe(uint64_t (&sums)[kLanes], const char* data) {
  for (size_t lane = 0; lane < kLanes; ++lane) {
    uint64_t word;
    std::memcpy(&word, data + lane * sizeof word, sizeof word);
    sums[lane] = add(sums[lane], word);
  }
}

}  // namespace

uint64_t checksum(const void* data, size_t bytes) {
  const char* next = static_cast<const char*>(data);
  uint64_t sums[kLanes] = {};
  size_t left = bytes;
  for (; left >= kStripe; left -= kStripe, next += kStripe) add_stripe(sums, next);
  if (left > 0) {
    char last[kStripe] = {};
    std::memcpy(last, next, left);
    add_stripe(sums, last);
  }
  uint64_t sum = bytes;
  for (const uint64_t lane : sums) sum = add(sum, lane);
  return add(sum ^ (sum >> 32), 0);
}

std::vector<uint64_t> unit_checksums(const Team& team, const char* data, size_t unit_bytes,
                                     const std::vector<int32_t>& units) {
  const int64_t blocks = ceil_divide(static_cast<int64_t>(unit_bytes), kBlock);
  const int64_t count = std::ssize(units);
  std::vector<uint64_t> sums(units.size()), of_blocks(static_cast<size_t>(count * blocks));
  team.for_range(count * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const size_t offset = static_cast<size_t>(i % blocks) * kBlock;
      const char* unit = data + static_cast<size_t>(units[i / blocks]) * unit_bytes;
      of_blocks[i] = checksum(unit + offset, std::min(kBlock, unit_bytes - offset));
    }
  });
  for (int64_t i = 0; i < count; ++i) {
    sums[i] = checksum(of_blocks.data() + i * blocks, static_cast<size_t>(blocks) * sizeof(uint64_t));
  }
  return sums;
}

}  // namespace moe::cpu
