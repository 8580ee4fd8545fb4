#include "cpu/runtime/checksum.h"

#include "check.h"

namespace {

using moe::cpu::checksum;
using moe::cpu::Team;
using moe::cpu::ThreadPool;
using moe::cpu::unit_checksums;

std::vector<char> some_bytes(size_t count) {
  std::vector<char> bytes(count);
  uint32_t state = 1;
  for (char& byte : bytes) byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

}  // namespace

MOE_TEST(a_checksum_changes_with_every_bit) {
  for (const size_t bytes : {1, 7, 8, 63, 64, 65, 200, 1024}) {
    for (const bool zeros : {false, true}) {
      std::vector<char> data = zeros ? std::vector<char>(bytes, 0) : some_bytes(bytes);
      const uint64_t sum = checksum(data.data(), bytes);
      for (size_t bit = 0; bit < bytes * 8; ++bit) {
        data[bit / 8] = static_cast<char>(data[bit / 8] ^ (1 << bit % 8));
        MOE_CHECK(checksum(data.data(), bytes) != sum);
        data[bit / 8] = static_cast<char>(data[bit / 8] ^ (1 << bit % 8));
      }
      MOE_CHECK(checksum(data.data(), bytes) == sum);
    }
  }
}

MOE_TEST(a_checksum_changes_with_the_length_and_the_order) {
  std::vector<char> zeros(300, 0);
  for (size_t bytes = 0; bytes + 1 < zeros.size(); ++bytes) {
    MOE_CHECK(checksum(zeros.data(), bytes) != checksum(zeros.data(), bytes + 1));
  }
  std::vector<char> data = some_bytes(256);
  const uint64_t sum = checksum(data.data(), data.size());
  for (const size_t distance : {8, 64}) {
    std::vector<char> swapped = data;
    std::swap_ranges(swapped.begin(), swapped.begin() + 8, swapped.begin() + static_cast<std::ptrdiff_t>(distance));
    MOE_CHECK(checksum(swapped.data(), swapped.size()) != sum);
  }
  // The same bit in two words, wherever they are.
  for (size_t a = 7; a < data.size(); a += 8) {
    for (size_t b = a + 8; b < data.size(); b += 8) {
      std::vector<char> changed = data;
      changed[a] = static_cast<char>(changed[a] ^ 0x80);
      changed[b] = static_cast<char>(changed[b] ^ 0x80);
      MOE_CHECK(checksum(changed.data(), changed.size()) != sum);
    }
  }
}

MOE_TEST(checksums_of_units_do_not_depend_on_threads_and_places) {
  const size_t unit = (size_t{2} << 20) + 100;
  const std::vector<char> data = some_bytes(4 * unit + 3);
  const std::vector<char> shifted(data.begin() + 3, data.end());
  const std::vector<int32_t> units = {3, 0, 2};
  const Team one{ThreadPool::shared(), 1}, three{ThreadPool::shared(), 3};
  const std::vector<uint64_t> sums = unit_checksums(one, data.data() + 3, unit, units);
  MOE_CHECK_EQUAL(sums.size(), units.size());
  MOE_CHECK(sums == unit_checksums(three, data.data() + 3, unit, units));
  MOE_CHECK(sums == unit_checksums(three, shifted.data(), unit, units));
  for (size_t i = 0; i < units.size(); ++i) {
    MOE_CHECK(unit_checksums(one, data.data() + 3, unit, {units[i]})[0] == sums[i]);
  }
  MOE_CHECK(sums[0] != sums[1]);
}
