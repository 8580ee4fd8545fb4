// Selection among 64-bit keys, and sorting them, by one block, eight bits at a time. All threads of the block take
// part.
#pragma once

#include <cstdint>

#include "gpu/tile/reduce.cuh"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;

__device__ __forceinline__ int digit_of(uint64_t key, int shift) {
  return static_cast<int>(key >> shift & (kDigits - 1));
}

// Shared memory for block_select.
struct SelectStorage {
  int counts[kDigits];
  int digit;   // the wanted key's digit at the current place
  int before;  // keys with a lower digit
};

// Finds the key that has exactly `rank` of the keys load(0), ..., load(count - 1) below it, 0 <= rank < count. The keys
// are distinct and have at most `bits` bits. When it returns, no thread uses `storage` any more.
template <class Load>
__device__ uint64_t block_select(int64_t count, int64_t rank, int bits, SelectStorage& storage, Load&& load) {
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  uint64_t found = 0;  // the digits above the current place
  for (int shift = (bits - 1) / kDigitBits * kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (int digit = thread; digit < kDigits; digit += threads) storage.counts[digit] = 0;
    __syncthreads();
    for (int64_t i = thread; i < count; i += threads) {
      const uint64_t key = load(i);
      if (key >> shift >> kDigitBits == found) atomicAdd(&storage.counts[digit_of(key, shift)], 1);
    }
    __syncthreads();
    if (thread < 32) {
      constexpr int kPerLane = kDigits / 32;
      int own = 0;
      for (int i = 0; i < kPerLane; ++i) own += storage.counts[thread * kPerLane + i];
      int before = warp_inclusive_scan(own, Sum{}) - own;
      for (int i = 0; i < kPerLane; ++i) {
        const int here = storage.counts[thread * kPerLane + i];
        if (rank >= before && rank < before + here) {
          storage.digit = thread * kPerLane + i;
          storage.before = before;
        }
        before += here;
      }
    }
    __syncthreads();
    found = found << kDigitBits | static_cast<uint64_t>(storage.digit);
    rank -= storage.before;
    __syncthreads();
  }
  return found;
}

// Shared memory for block_sort, for blocks of at most kSortWarps warps.
constexpr int kSortWarps = 8;
struct RadixSortStorage {
  int next[kDigits];                     // where the next key of each digit goes
  int warp_counts[kSortWarps][kDigits];  // per tile: keys of each digit, then where the warp's first goes
  WarpTotals totals;
};

// Sorts keys[0 .. count - 1] stably by the bits from `first_bit` up, a multiple of eight bits; `other` has the same
// size. Returns whichever of the two holds the result, which all threads can see on return.
__device__ inline uint64_t* block_sort(uint64_t* keys, uint64_t* other, int64_t count, int first_bit,
                                       RadixSortStorage& storage) {
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int lane = thread % 32;
  const int warps = threads / 32;
  int* own_counts = storage.warp_counts[thread / 32];
  for (int shift = first_bit; shift < 64; shift += kDigitBits) {
    for (int digit = thread; digit < kDigits; digit += threads) storage.next[digit] = 0;
    __syncthreads();
    for (int64_t i = thread; i < count; i += threads) atomicAdd(&storage.next[digit_of(keys[i], shift)], 1);
    __syncthreads();
    int before = 0;
    for (int base = 0; base < kDigits; base += threads) {
      const int digit = base + thread;
      const int own = digit < kDigits ? storage.next[digit] : 0;
      int total;
      const int inclusive = block_inclusive_scan(own, Sum{}, storage.totals, total);
      if (digit < kDigits) storage.next[digit] = before + inclusive - own;
      before += total;
    }
    for (int64_t base = 0; base < count; base += threads) {
      for (int digit = lane; digit < kDigits; digit += 32) own_counts[digit] = 0;
      __syncwarp();
      const bool exists = base + thread < count;
      const uint64_t key = exists ? keys[base + thread] : 0;
      const int digit = exists ? digit_of(key, shift) : kDigits;
      const unsigned peers = __match_any_sync(kAllLanes, digit);
      const int earlier = __popc(peers & ((1u << lane) - 1));
      if (exists && earlier == 0) own_counts[digit] = __popc(peers);
      __syncthreads();
      for (int each = thread; each < kDigits; each += threads) {
        int next = storage.next[each];
        for (int warp = 0; warp < warps; ++warp) {
          const int here = storage.warp_counts[warp][each];
          storage.warp_counts[warp][each] = next;
          next += here;
        }
        storage.next[each] = next;
      }
      __syncthreads();
      if (exists) other[own_counts[digit] + earlier] = key;
      __syncwarp();
    }
    __syncthreads();
    uint64_t* sorted = other;
    other = keys;
    keys = sorted;
  }
  return keys;
}

}  // namespace moe::MOE_GPU_NAMESPACE
