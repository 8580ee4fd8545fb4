#include "core/host_memory.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "check.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

using moe::Code;
using moe::HostMemory;

constexpr size_t kMiB = size_t{1} << 20;

void* grant(HostMemory& memory, size_t bytes) {
  void* data = nullptr;
  MOE_CHECK(memory.allocate(bytes, 64, &data).ok());
  return data;
}

Code refused(HostMemory& memory, size_t bytes) {
  void* data = &memory;
  const Code code = memory.allocate(bytes, 64, &data).code;
  MOE_CHECK(data == nullptr);
  return code;
}

bool all_zero(const char* data, size_t bytes) {
  return std::all_of(data, data + bytes, [](char byte) { return byte == 0; });
}

}  // namespace

#if defined(__linux__)

// Whether released memory is kept: what is given back has no pages.
static bool is_mapped(void* data) { return msync(data, 1, MS_ASYNC) == 0; }

MOE_TEST(what_is_promised_counts_until_it_is_filled_or_freed) {
  HostMemory memory([] { return 200 * kMiB; });
  void* first = grant(memory, 128 * kMiB);
  MOE_CHECK(refused(memory, 128 * kMiB) == Code::out_of_memory);
  // Half of it filled, 64 MiB are promised: the system no longer counts the other 64 MiB as available.
  std::memset(first, 1, 64 * kMiB);
  MOE_CHECK(refused(memory, 140 * kMiB) == Code::out_of_memory);
  void* second = grant(memory, 128 * kMiB);
  memory.release(second);
  std::memset(first, 1, 128 * kMiB);
  memory.release(grant(memory, 199 * kMiB));
  memory.release(first);
  memory.release(grant(memory, 199 * kMiB));
}

MOE_TEST(memory_of_others_counts_until_it_is_filled_or_forgotten) {
  HostMemory memory([] { return 200 * kMiB; });
  const std::vector<char> small(kMiB);
  MOE_CHECK(memory.count(const_cast<char*>(small.data()), small.size()) == nullptr);
  HostMemory others([] { return SIZE_MAX; });
  void* array = grant(others, 128 * kMiB);
  MOE_CHECK(memory.check(128 * kMiB).ok());
  std::shared_ptr<void> counted = memory.count(array, 128 * kMiB);
  MOE_CHECK(memory.check(128 * kMiB).code == Code::out_of_memory);
  MOE_CHECK(refused(memory, 128 * kMiB) == Code::out_of_memory);
  std::memset(array, 1, 128 * kMiB);
  MOE_CHECK(memory.check(128 * kMiB).ok());
  others.zero(array, 128 * kMiB);
  counted.reset();
  MOE_CHECK(memory.check(128 * kMiB).ok());
  others.release(array);
  MOE_CHECK(memory.check(201 * kMiB).code == Code::out_of_memory);
}

MOE_TEST(many_small_promises_are_refused_too) {
  HostMemory memory([] { return 200 * kMiB; });
  std::vector<void*> blocks;
  void* data = nullptr;
  while (blocks.size() < 1000 && memory.allocate(kMiB, 64, &data).ok()) blocks.push_back(data);
  // The limits are read once for every 64 MiB.
  MOE_CHECK(blocks.size() >= 200 - 64 && blocks.size() <= 200 + 64);
  for (void* block : blocks) memory.release(block);
  memory.release(grant(memory, 199 * kMiB));
}

MOE_TEST(memory_that_comes_and_goes_is_granted_without_reading_limits) {
  int asked = 0;
  HostMemory memory([&asked] {
    ++asked;
    return 200 * kMiB;
  });
  for (int i = 0; i < 1000; ++i) memory.release(grant(memory, kMiB));
  MOE_CHECK_EQUAL(asked, 0);
}

MOE_TEST(an_impossible_size_is_refused_by_the_system) {
  HostMemory memory([] { return SIZE_MAX; });
  MOE_CHECK(refused(memory, SIZE_MAX - 5) == Code::out_of_memory);
  MOE_CHECK(refused(memory, size_t{1} << 52) == Code::out_of_memory);
}

MOE_TEST(zeroed_memory_is_promised_again) {
  HostMemory memory([] { return 200 * kMiB; });
  void* first = grant(memory, 128 * kMiB);
  std::memset(first, 1, 128 * kMiB);
  memory.release(grant(memory, 128 * kMiB));
  memory.zero(first, 128 * kMiB);
  MOE_CHECK(refused(memory, 128 * kMiB) == Code::out_of_memory);
  memory.release(first);
}

MOE_TEST(what_was_released_soon_is_granted_again) {
  std::chrono::steady_clock::time_point now{};
  HostMemory memory([] { return 1600 * kMiB; }, [&now] { return now; });
  // Reads the limits: an eighth may be kept.
  memory.release(grant(memory, 64 * kMiB));
  memory.give_back_kept();
  char* first = static_cast<char*>(grant(memory, 100 * kMiB));
  std::memset(first, 1, 100 * kMiB);
  memory.release(first);
  // Its pages, for what is as large or a little smaller.
  char* second = static_cast<char*>(grant(memory, 95 * kMiB));
  MOE_CHECK(second == first && second[0] == 1 && second[95 * kMiB - 1] == 1);
  memory.release(second);
  void* smaller = grant(memory, 50 * kMiB);
  void* larger = grant(memory, 101 * kMiB);
  MOE_CHECK(smaller != first && larger != first);
  // More than the most is not kept with the others, but given back.
  MOE_CHECK(is_mapped(first));
  memory.release(larger);
  MOE_CHECK(is_mapped(first) && !is_mapped(larger));
  memory.release(smaller);
  MOE_CHECK(is_mapped(first) && is_mapped(smaller));
  memory.give_back_kept();
  MOE_CHECK(!is_mapped(first) && !is_mapped(smaller));
}

MOE_TEST(pages_that_nobody_has_filled_are_promised_again_with_kept_memory) {
  std::chrono::steady_clock::time_point now{};
  HostMemory memory([] { return 1600 * kMiB; }, [&now] { return now; });
  memory.release(grant(memory, 64 * kMiB));
  memory.give_back_kept();
  void* first = grant(memory, 100 * kMiB);
  memory.release(first);
  // The first 95 MiB of its pages, of which it becomes known that they are filled.
  void* smaller = grant(memory, 95 * kMiB);
  MOE_CHECK(smaller == first);
  std::memset(smaller, 1, 95 * kMiB);
  memory.release(grant(memory, 1600 * kMiB));
  memory.release(smaller);
  void* larger = grant(memory, 100 * kMiB);
  MOE_CHECK(larger == first);
  MOE_CHECK(refused(memory, 1598 * kMiB) == Code::out_of_memory);
  std::memset(larger, 1, 100 * kMiB);
  memory.release(grant(memory, 1598 * kMiB));
  memory.release(larger);
}

MOE_TEST(only_temporary_memory_is_kept_and_not_for_long) {
  std::chrono::steady_clock::time_point now{};
  HostMemory memory([] { return 1600 * kMiB; }, [&now] { return now; });
  void* weights = grant(memory, 64 * kMiB);
  void* temporary = grant(memory, 32 * kMiB);
  memory.release(temporary);
  MOE_CHECK(is_mapped(temporary));
  now += std::chrono::seconds(31);
  memory.release(weights);
  MOE_CHECK(!is_mapped(temporary) && !is_mapped(weights));
  void* again = grant(memory, 32 * kMiB);
  void* small = grant(memory, 100);
  memory.release(again);
  MOE_CHECK(is_mapped(again));
  now += std::chrono::seconds(31);
  memory.release(small);
  MOE_CHECK(!is_mapped(again));
}

MOE_TEST(of_kept_blocks_the_smallest_that_is_large_enough_is_granted) {
  std::chrono::steady_clock::time_point now{};
  HostMemory memory([] { return 1600 * kMiB; }, [&now] { return now; });
  memory.release(grant(memory, 64 * kMiB));
  memory.give_back_kept();
  void* large = grant(memory, 44 * kMiB);
  void* small = grant(memory, 40 * kMiB);
  void* medium = grant(memory, 42 * kMiB);
  for (void* block : {large, small, medium}) memory.release(block);
  MOE_CHECK(grant(memory, 40 * kMiB) == small);
  MOE_CHECK(grant(memory, 40 * kMiB) == medium);
  MOE_CHECK(grant(memory, 40 * kMiB) == large);
  for (void* block : {large, small, medium}) memory.release(block);
}

MOE_TEST(what_was_given_back_leaves_room_for_others_to_be_kept) {
  std::chrono::steady_clock::time_point now{};
  HostMemory memory([] { return 800 * kMiB; }, [&now] { return now; });
  for (int turn = 0; turn < 3; ++turn) {
    void* block = grant(memory, 80 * kMiB);
    memory.release(block);
    MOE_CHECK(is_mapped(block));
    now += std::chrono::seconds(31);
    void* other = grant(memory, 10 * kMiB);
    memory.release(other);
    MOE_CHECK(!is_mapped(block) && is_mapped(other));
  }
}

MOE_TEST(memory_is_granted_that_is_there_once_what_was_kept_has_gone) {
  void* kept = nullptr;
  HostMemory memory([&kept] { return (kept != nullptr && is_mapped(kept) ? 200 : 400) * kMiB; });
  void* block = grant(memory, 64 * kMiB);
  kept = grant(memory, 10 * kMiB);
  memory.release(kept);
  memory.release(grant(memory, 300 * kMiB));
  MOE_CHECK(!is_mapped(kept));
  memory.release(block);
}

MOE_TEST(kept_memory_makes_way) {
  bool kept = false;
  HostMemory memory([&kept] { return (kept ? 200 : 400) * kMiB; });
  void* block = grant(memory, 64 * kMiB);
  void* others[4];
  for (void*& other : others) other = grant(memory, 10 * kMiB);
  for (void* other : others) memory.release(other);
  for (void* other : others) MOE_CHECK(is_mapped(other));
  kept = true;
  // Asked once more when it has gone.
  MOE_CHECK(refused(memory, 201 * kMiB) == Code::out_of_memory);
  for (void* other : others) MOE_CHECK(!is_mapped(other));
  memory.release(block);
}

#endif

MOE_TEST(zero_clears_exactly_its_range) {
  HostMemory memory([] { return SIZE_MAX; });
  for (const size_t size : {size_t{1000}, 3 * kMiB, 100 * kMiB}) {
    char* data = static_cast<char*>(grant(memory, size));
    for (const auto& [begin, end] : {std::pair{size_t{0}, size}, std::pair{size_t{77}, size - 99}}) {
      std::memset(data, 1, size);
      memory.zero(data + begin, end - begin);
      MOE_CHECK(all_zero(data + begin, end - begin));
      MOE_CHECK(begin == 0 || data[begin - 1] == 1);
      MOE_CHECK(end == size || data[end] == 1);
    }
    memory.release(data);
  }
}
