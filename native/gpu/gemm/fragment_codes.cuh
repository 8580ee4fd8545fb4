// Codes become the elements of tensor cores' fragments in a few instructions, exactly: pairs of 16-bit numbers, or four
// bytes. See gemm/quantized_layout.h for where the codes of a pair are.
#pragma once

#include <cstdint>

#include "gpu/gemm/quantized.cuh"

#include <ptx/ld_st.cuh>
#include <ptx/packed.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// The bits of 16-bit numbers.
template <class T>
struct HalfBits;
template <>
struct HalfBits<bf16> {
  static constexpr uint32_t kOne = 0x3f80, kMinusOne = 0xbf80;
  // A number whose lowest digits count ones: an integer of fewer bits can be put there by an or.
  static constexpr uint32_t kCounting = 0x4300;
  static constexpr int kCountingValue = 128, kCountingBits = 7;
  // How far E4M3's bits are shifted so that exponent and mantissa are in place, and the factor that they then lack.
  static constexpr int kE4M3Shift = 4;
  static constexpr uint32_t kE4M3Factor = 0x7b80;  // 2^120
};
template <>
struct HalfBits<f16> {
  static constexpr uint32_t kOne = 0x3c00, kMinusOne = 0xbc00;
  static constexpr uint32_t kCounting = 0x6400;
  static constexpr int kCountingValue = 1024, kCountingBits = 10;
  static constexpr int kE4M3Shift = 7;
  static constexpr uint32_t kE4M3Factor = 0x5c00;  // 2^8
};

__device__ __forceinline__ constexpr uint32_t both(uint32_t half) { return half | half << 16; }

__device__ __forceinline__ uint32_t fma_pairs(uint32_t a, uint32_t b, uint32_t c, bf16) {
  return ptx::fma_rn_bf16x2(a, b, c);
}
__device__ __forceinline__ uint32_t fma_pairs(uint32_t a, uint32_t b, uint32_t c, f16) {
  return ptx::fma_rn_f16x2(a, b, c);
}

// Codes of `kBits` bits as numbers of T. A fragment's register holds those of kChunks chunks.
template <class T, Codes kCodes, int kBits>
struct FragmentCodes {
  static constexpr int kChunks = 1;
  using Half = HalfBits<T>;
  static constexpr uint32_t kOnes = both(Half::kOne);
  static constexpr uint32_t kCounting = both(Half::kCounting);
  // What fills a byte is put into T's digits in two parts.
  static constexpr bool kInParts = (kCodes == Codes::table ? 8 : kBits) > Half::kCountingBits;

  // What convert() adds to the codes for this zero point.
  __device__ static uint32_t offset(int zero) {
    return both(from_float<T>(static_cast<float>((kInParts ? 128 : -Half::kCountingValue) - zero)).bits);
  }

  // Two codes in the lower bits of the halves, less the zero point of `offset`.
  __device__ static uint32_t convert(uint32_t codes, uint32_t offset) {
    if constexpr (kCodes == Codes::e4m3) {
      const uint32_t sign = (codes & both(0x80)) << 8, magnitude = (codes & both(0x7f)) << Half::kE4M3Shift;
      return fma_pairs(sign | magnitude, both(Half::kE4M3Factor), 0, T{});
    } else if constexpr (kInParts) {
      // With a code of 128 or more: 128 + (code - 128), less 128. With others: 128 + code, less 256.
      const uint32_t lower = (codes & both(0x7f)) | kCounting, upper = (~codes & both(0x80)) | kCounting;
      const uint32_t number = fma_pairs(upper, both(Half::kMinusOne), lower, T{});
      return kCodes == Codes::table ? number : fma_pairs(number, both(Half::kOne), offset, T{});
    } else {
      return fma_pairs(codes | kCounting, both(Half::kOne), offset, T{});
    }
  }
};

// Codes as signed bytes: integers as they are or, if they are of 8 bits, less 128. The rest is for sums to correct.
template <Codes kCodes, int kBits>
struct FragmentCodes<int8_t, kCodes, kBits> {
  static constexpr int kChunks = 2;
  static constexpr uint32_t kOnes = 0x01010101u;
  static constexpr uint32_t kSigns = 0x80808080u;

  // What is to be subtracted from converted codes for this zero point.
  __device__ static uint32_t offset(int zero) { return static_cast<uint32_t>(zero - (kBits == 8 ? 128 : 0)); }

  // Four codes, less `zero` if they are of fewer than 8 bits.
  __device__ static uint32_t convert(uint32_t codes, int zero) {
    if constexpr (kCodes == Codes::table) return codes;
    if constexpr (kBits == 8) return codes ^ kSigns;
    // The sign bits keep bytes from borrowing.
    return ((codes | kSigns) - static_cast<uint32_t>(zero) * kOnes) ^ kSigns;
  }
};

// Codes of e4m3 as they are.
template <>
struct FragmentCodes<fp8, Codes::e4m3, 8> {
  static constexpr int kChunks = 2;
  static constexpr uint32_t kOnes = 0x38383838u;

  __device__ static uint32_t offset(int) { return 0; }
  __device__ static uint32_t convert(uint32_t codes, int) { return codes; }
};

// The bytes of a table with four registers for the four codes in the lower half of `codes`, of four bits each.
__device__ __forceinline__ uint32_t look_up(const uint32_t (&table)[4], uint32_t codes) {
  const uint32_t lower = ptx::prmt(table[0], table[1], codes & 0x7777u);
  const uint32_t upper = ptx::prmt(table[2], table[3], codes & 0x7777u);
  return ptx::prmt(lower, upper, (codes & 0x8888u) >> 1 | 0x3210u);
}

// What a lane holds of one column's codes of a stage in shared memory: a word of low bits, which it replaces as it
// goes, and the high bits.
template <Codes kCodes, int kBits>
class CodeWord {
 public:
  // Loads what chunk `chunk`, and the next one, lack: columns' codes stand as in the packed matrix, with `columns` for
  // its rows. Chunks come in order.
  __device__ void load(const char* codes, const uint32_t (&table)[4], int columns, int column, int part, int chunk) {
    const auto word = [&](int quad) {
      return ptx::ld_shared_32(codes + (quad * columns + column) * gpu::kQuadBytes + part * 4);
    };
    if (chunk % kPairs == 0) {
      low_[0] = word(chunk / kPairs);
      if constexpr (kCodes == Codes::table) {
        const uint32_t all = low_[0];
        low_[0] = look_up(table, all);
        low_[1] = look_up(table, all >> 16);
      }
    }
    if (chunk > 0) return;
    if constexpr (kHigh == 2) high_ = word(gpu::low_quads(kBits));
    if constexpr (kHigh == 1) {
      const char* halves = codes + gpu::low_quads(kBits) * columns * gpu::kQuadBytes;
      const uint32_t two = ptx::ld_shared_32(halves + column * (gpu::kQuadBytes / 2) + part / 2 * 4);
      const uint32_t own = two >> part % 2 * 16;
      high_ = (own & 0xffu) | (own & 0xff00u) << 8;
    }
  }

  // The two codes of a chunk that is loaded, in the lower bits of the halves.
  __device__ uint32_t pair(int chunk) const {
    const int place = chunk % kPairs;
    if constexpr (kCodes == Codes::table) {
      return ptx::prmt(low_[0], low_[1], static_cast<uint32_t>(0x0400 + 0x0101 * place)) & both(0xff);
    }
    const uint32_t low = low_[0] >> kLow * place & both((1u << kLow) - 1u);
    return kHigh == 0 ? low : low | (high_ >> kHigh * chunk & both((1u << kHigh) - 1u)) << kLow;
  }

  // The four codes of a chunk that is loaded and the next one, in bytes: even columns first.
  __device__ uint32_t quad(int chunk) const {
    if constexpr (kCodes == Codes::table) return ptx::prmt(low_[0], low_[1], chunk % kPairs == 0 ? 0x5410u : 0x7632u);
    return pair(chunk) | pair(chunk + 1) << 8;
  }

 private:
  static constexpr int kLow = gpu::low_bits(kBits), kHigh = gpu::high_bits(kBits);
  static constexpr int kPairs = 16 / kLow;  // in a word

  uint32_t low_[kCodes == Codes::table ? 2 : 1];
  uint32_t high_;
};

}  // namespace moe::MOE_GPU_NAMESPACE
