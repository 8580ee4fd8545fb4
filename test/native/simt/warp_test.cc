// Shuffles, votes, matches and reductions against their definitions, lane by lane.
#include <array>

#include "run.h"

namespace moe::simt::test {

namespace {

constexpr unsigned kAll = 0xffffffffu;

struct Shuffles {
  float index[32], up[32], down[32], exclusive[32];
};

__global__ void shuffle_kernel(Shuffles* out, int operand, int width) {
  const unsigned lane = threadIdx.x;
  const float value = 100.0f + static_cast<float>(lane);
  out->index[lane] = __shfl_sync(kAll, value, operand, width);
  out->up[lane] = __shfl_up_sync(kAll, value, static_cast<unsigned>(operand), width);
  out->down[lane] = __shfl_down_sync(kAll, value, static_cast<unsigned>(operand), width);
  out->exclusive[lane] = __shfl_xor_sync(kAll, value, operand, width);
}

MOE_TEST(shuffles_read_the_lane_that_the_guide_names) {
  for (const int width : {1, 2, 4, 8, 16, 32}) {
    for (int operand = 0; operand < 32; ++operand) {
      Shuffles out;
      run(shuffle_kernel, 1, 32, 0, with(static_cast<uint64_t>(width * 32 + operand)), &out, operand, width);
      for (int lane = 0; lane < 32; ++lane) {
        const int first = lane / width * width, last = first + width - 1;
        const auto value = [&](int source) { return 100.0f + static_cast<float>(source); };
        MOE_CHECK_EQUAL(out.index[lane], value(first + operand % width));
        MOE_CHECK_EQUAL(out.up[lane], value(lane - operand >= first ? lane - operand : lane));
        MOE_CHECK_EQUAL(out.down[lane], value(lane + operand <= last ? lane + operand : lane));
        // Lanes of later segments cannot be read; those of earlier ones can.
        MOE_CHECK_EQUAL(out.exclusive[lane], value((lane ^ operand) <= last ? lane ^ operand : lane));
      }
    }
  }
}

template <class T>
__global__ void rotate_kernel(T* out, T step) {
  const T value = static_cast<T>(threadIdx.x) * step;
  out[threadIdx.x] = __shfl_sync(kAll, value, static_cast<int>(threadIdx.x + 1));
}

template <class T>
void check_rotation(T step) {
  std::array<T, 32> out;
  run(rotate_kernel<T>, 1, 32, 0, with(1), out.data(), step);
  for (unsigned lane = 0; lane < 32; ++lane) MOE_CHECK_EQUAL(out[lane], static_cast<T>((lane + 1) % 32) * step);
}

MOE_TEST(shuffles_carry_every_32_and_64_bit_type) {
  check_rotation<int>(-3);
  check_rotation<unsigned>(0x07ffffffu);
  check_rotation<float>(1.5f);
  check_rotation<double>(-0x1.123456789abcdp-3);
  check_rotation<long long>(-0x0123456789abcdll);
  check_rotation<unsigned long long>(0x0723456789abcdefull);
}

// Each half of the warp takes its own branch and meets under its own mask.
__global__ void halves_kernel(int* out, int rounds) {
  const int lane = static_cast<int>(threadIdx.x);
  const unsigned mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  int sum = lane;
  for (int round = 0; round < (lane < 16 ? rounds : 2 * rounds); ++round) {
    for (int distance = 8; distance > 0; distance /= 2) sum += __shfl_xor_sync(mask, sum, distance);
  }
  __syncwarp();
  out[lane] = sum + __shfl_xor_sync(kAll, sum, 16);
}

MOE_TEST(parts_of_a_warp_meet_apart) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::array<int, 32> out;
    run(halves_kernel, 1, 32, 0, with(seed), out.data(), 1);
    // A sum over 16 lanes: once in the lower half; in the upper half summed once more over 16 equal lanes.
    const int lower = 15 * 16 / 2, upper = 16 * (16 * 16 + 15 * 16 / 2);
    for (const int sum : out) MOE_CHECK_EQUAL(sum, lower + upper);
  }
}

struct Votes {
  unsigned ballot[32];
  int any[32], all[32];
  unsigned match_any[32], match_all[32];
  int same[32];
};

__global__ void vote_kernel(Votes* out, const int* predicates, const long long* values) {
  const unsigned lane = threadIdx.x;
  out->ballot[lane] = __ballot_sync(kAll, predicates[lane]);
  out->any[lane] = __any_sync(kAll, predicates[lane]);
  out->all[lane] = __all_sync(kAll, predicates[lane]);
  out->match_any[lane] = __match_any_sync(kAll, values[lane]);
  out->match_all[lane] = __match_all_sync(kAll, values[lane], &out->same[lane]);
}

void check_votes(const std::array<int, 32>& predicates, const std::array<long long, 32>& values) {
  Votes out;
  run(vote_kernel, 1, 32, 0, with(3), &out, predicates.data(), values.data());
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (predicates[lane] != 0) ballot |= 1u << lane;
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    unsigned equal = 0;
    for (unsigned other = 0; other < 32; ++other) equal |= unsigned{values[other] == values[lane]} << other;
    MOE_CHECK_EQUAL(out.ballot[lane], ballot);
    MOE_CHECK_EQUAL(out.any[lane], ballot != 0);
    MOE_CHECK_EQUAL(out.all[lane], ballot == kAll);
    MOE_CHECK_EQUAL(out.match_any[lane], equal);
    MOE_CHECK_EQUAL(out.match_all[lane], equal == kAll ? kAll : 0u);
    MOE_CHECK_EQUAL(out.same[lane], equal == kAll);
  }
}

MOE_TEST(votes_and_matches_see_all_lanes) {
  std::array<int, 32> predicates{};
  std::array<long long, 32> values{};
  check_votes(predicates, values);
  predicates.fill(1);
  check_votes(predicates, values);
  for (unsigned lane = 0; lane < 32; ++lane) {
    predicates[lane] = lane % 3 == 0 ? static_cast<int>(lane) : 0;
    // Equal in their lower halves.
    values[lane] = static_cast<long long>(lane % 5) << 40 | 7;
  }
  check_votes(predicates, values);
}

struct Reductions {
  int add, min, max;
  unsigned unsigned_min, unsigned_max, bits_and, bits_or, bits_xor;
};

__global__ void reduce_kernel(Reductions* out, const int* values, unsigned mask) {
  const unsigned lane = threadIdx.x;
  if ((mask >> lane & 1) == 0) return;
  const unsigned bits = static_cast<unsigned>(values[lane]);
  out[lane] = {__reduce_add_sync(mask, values[lane]), __reduce_min_sync(mask, values[lane]),
               __reduce_max_sync(mask, values[lane]), __reduce_min_sync(mask, bits),
               __reduce_max_sync(mask, bits),         __reduce_and_sync(mask, bits),
               __reduce_or_sync(mask, bits),          __reduce_xor_sync(mask, bits)};
}

MOE_TEST(reductions_cover_the_mask_and_no_more) {
  std::array<int, 32> values;
  for (int lane = 0; lane < 32; ++lane)
    values[static_cast<size_t>(lane)] = lane % 2 == 0 ? -lane * 77 - 5 : lane * 0x01234567;
  for (const unsigned mask : {kAll, 0x80000001u, 0x00ffff00u, 0x5a5a5a5au}) {
    std::array<Reductions, 32> out;
    run(reduce_kernel, 1, 32, 0, with(mask), out.data(), values.data(), mask);
    unsigned add = 0, low = kAll, high = 0, bits_and = kAll, bits_or = 0, bits_xor = 0;
    int min = 0x7fffffff, max = -0x7fffffff - 1;
    for (unsigned lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      const int value = values[lane];
      const unsigned bits = static_cast<unsigned>(value);
      add += bits;
      min = value < min ? value : min;
      max = value > max ? value : max;
      low = bits < low ? bits : low;
      high = bits > high ? bits : high;
      bits_and &= bits;
      bits_or |= bits;
      bits_xor ^= bits;
    }
    for (unsigned lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      MOE_CHECK_EQUAL(out[lane].add, static_cast<int>(add));
      MOE_CHECK_EQUAL(out[lane].min, min);
      MOE_CHECK_EQUAL(out[lane].max, max);
      MOE_CHECK_EQUAL(out[lane].unsigned_min, low);
      MOE_CHECK_EQUAL(out[lane].unsigned_max, high);
      MOE_CHECK_EQUAL(out[lane].bits_and, bits_and);
      MOE_CHECK_EQUAL(out[lane].bits_or, bits_or);
      MOE_CHECK_EQUAL(out[lane].bits_xor, bits_xor);
    }
  }
}

MOE_TEST(bit_functions_count_and_reverse) {
  MOE_CHECK_EQUAL(__popc(0xf0f00001u), 9);
  MOE_CHECK_EQUAL(__popcll(0xf000000000000001ull), 5);
  MOE_CHECK_EQUAL(__ffs(0), 0);
  MOE_CHECK_EQUAL(__ffs(0x50), 5);
  MOE_CHECK_EQUAL(__ffs(static_cast<int>(0x80000000u)), 32);
  MOE_CHECK_EQUAL(__clz(0), 32);
  MOE_CHECK_EQUAL(__clz(1), 31);
  MOE_CHECK_EQUAL(__clz(-1), 0);
  MOE_CHECK_EQUAL(__brev(0x00000001u), 0x80000000u);
  MOE_CHECK_EQUAL(__brev(0x12345678u), 0x1e6a2c48u);
  MOE_CHECK_EQUAL(__umulhi(0x80000000u, 6), 3u);
}

}  // namespace

}  // namespace moe::simt::test
