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
  static constexpr int kCountingValue = 128, kCountingBits = 7;  // as many as the mantissa has
  static constexpr int kBias = 127;
};
template <>
struct HalfBits<f16> {
  static constexpr uint32_t kOne = 0x3c00, kMinusOne = 0xbc00;
  static constexpr uint32_t kCounting = 0x6400;
  static constexpr int kCountingValue = 1024, kCountingBits = 10;
  static constexpr int kBias = 15;
};

// Codes that are small floats: sign, exponent, mantissa.
struct SmallFloat {
  int mantissa_bits, bias;
};
__device__ __forceinline__ constexpr SmallFloat small_float(Codes codes) {
  return codes == Codes::e4m3 ? SmallFloat{3, 7} : SmallFloat{1, 1};
}

__device__ __forceinline__ constexpr uint32_t both(uint32_t half) { return half | half << 16; }

// (a & b) | c
__device__ __forceinline__ uint32_t and_or(uint32_t a, uint32_t b, uint32_t c) {
  return ptx::lop3<(0xf0 & 0xcc) | 0xaa>(a, b, c);
}
// Bits of `a` where the mask has ones, of `b` elsewhere.
__device__ __forceinline__ uint32_t select(uint32_t mask, uint32_t a, uint32_t b) {
  return ptx::lop3<(0xf0 & 0xcc) | (~0xf0 & 0xaa)>(mask, a, b);
}

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
  static constexpr int kValueBits = kCodes == Codes::table ? 8 : kBits;
  // What fills a byte is put into T's digits in two parts.
  static constexpr bool kInParts = kValueBits > Half::kCountingBits;

  // What convert() adds to the codes for this zero point.
  __device__ static uint32_t offset(int zero) {
    return both(from_float<T>(static_cast<float>((kInParts ? 128 : -Half::kCountingValue) - zero)).bits);
  }

  // The codes in the lower bits of the halves, less the zero point of `offset`.
  __device__ static uint32_t convert(uint32_t codes, uint32_t offset) {
    if constexpr (kCodes == Codes::e4m3 || kCodes == Codes::e2m1) {
      // Exponent and mantissa are put in their places, and the product makes up for the bias that they lack.
      constexpr SmallFloat kFloat = small_float(kCodes);
      constexpr uint32_t kSign = 1u << (kBits - 1), kFactor = 2 * Half::kBias - kFloat.bias;
      const uint32_t sign = (codes & both(kSign)) << (16 - kBits);
      const uint32_t magnitude = (codes & both(kSign - 1)) << (Half::kCountingBits - kFloat.mantissa_bits);
      return fma_pairs(sign | magnitude, both(kFactor << Half::kCountingBits), 0, T{});
    } else if constexpr (kInParts) {
      // With a code of 128 or more: 128 + (code - 128), less 128. With others: 128 + code, less 256.
      const uint32_t lower = and_or(codes, both(0x7f), kCounting);
      const uint32_t upper = ptx::lop3<(~0xf0 & 0xcc) | 0xaa>(codes, both(0x80), kCounting);
      const uint32_t number = fma_pairs(upper, both(Half::kMinusOne), lower, T{});
      return kCodes == Codes::table ? number : fma_pairs(number, both(Half::kOne), offset, T{});
    } else {
      const uint32_t number = and_or(codes, both((1u << kValueBits) - 1u), kCounting);
      return fma_pairs(number, both(Half::kOne), offset, T{});
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

  // The codes in the lower bits of the bytes, less `zero` if they are of fewer than 8 bits.
  __device__ static uint32_t convert(uint32_t codes, int zero) {
    if constexpr (kCodes == Codes::table) return codes;
    if constexpr (kBits == 8) return codes ^ kSigns;
    // The sign bits keep bytes from borrowing.
    const uint32_t numbers = and_or(codes, ((1u << kBits) - 1u) * kOnes, kSigns);
    return (numbers - static_cast<uint32_t>(zero) * kOnes) ^ kSigns;
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

// The bytes of a table for codes of four bits: for the four in the lower half of `codes`.
__device__ __forceinline__ uint32_t look_up(const uint32_t (&table)[4], uint32_t codes) {
  const uint32_t lower = ptx::prmt(table[0], table[1], codes & 0x7777u);
  const uint32_t upper = ptx::prmt(table[2], table[3], codes & 0x7777u);
  return ptx::prmt(lower, upper, (codes & 0x8888u) >> 1 | 0x3210u);
}

// The same for codes of three bits: for those in the lowest bits of both halves, whose upper bytes are then any.
__device__ __forceinline__ uint32_t look_up_pair(const uint32_t (&table)[4], uint32_t codes) {
  const uint32_t lowest = codes & both(7);
  return ptx::prmt(table[0], table[1], lowest | lowest >> 8);
}
// For those in the lowest bits of all bytes.
__device__ __forceinline__ uint32_t look_up_quad(const uint32_t (&table)[4], uint32_t codes) {
  const uint32_t lowest = codes & 0x07070707u, pairs = lowest | lowest >> 4;
  return ptx::prmt(table[0], table[1], ptx::prmt(pairs, 0, 0x4420u));
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
      if constexpr (kLooksUpNibbles) {
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

  // The two codes of a chunk that is loaded, in the lower bits of the halves. Other bits are those of other codes.
  __device__ uint32_t pair(int chunk, const uint32_t (&table)[4]) const {
    if constexpr (kLooksUpNibbles) {
      return ptx::prmt(low_[0], low_[1], static_cast<uint32_t>(0x0400 + 0x0101 * (chunk % kPairs)));
    }
    const uint32_t codes = stored_pair(chunk, 0);
    return kCodes == Codes::table ? look_up_pair(table, codes) : codes;
  }

  // The four codes of a chunk that is loaded and the next one, in the lower bits of bytes: even columns first.
  __device__ uint32_t quad(int chunk, const uint32_t (&table)[4]) const {
    if constexpr (kLooksUpNibbles) return ptx::prmt(low_[0], low_[1], chunk % kPairs == 0 ? 0x5410u : 0x7632u);
    if constexpr (kBits == 8) return low_[0];
    const uint32_t codes = select(both(0xff), stored_pair(chunk, 0), stored_pair(chunk + 1, 8));
    return kCodes == Codes::table ? look_up_quad(table, codes) : codes;
  }

 private:
  static constexpr int kLow = gpu::low_bits(kBits), kHigh = gpu::high_bits(kBits);
  static constexpr int kPairs = 16 / kLow;  // in a word
  // Whether words are looked up as they are loaded. Others are put together from low and high bits first.
  static constexpr bool kLooksUpNibbles = kCodes == Codes::table && kBits == 4;

  // As they are stored, from bit `first` of the halves on.
  __device__ uint32_t stored_pair(int chunk, int first) const {
    const int place = chunk % kPairs;
    const uint32_t low = shifted(low_[0], kLow * place - first);
    if constexpr (kHigh == 0) return low;
    return select(both(((1u << kLow) - 1u) << first), low, shifted(high_, kHigh * chunk - kLow - first));
  }

  // To the right, or to the left.
  __device__ static uint32_t shifted(uint32_t word, int bits) { return bits < 0 ? word << -bits : word >> bits; }
  uint32_t low_[kLooksUpNibbles ? 2 : 1];
  uint32_t high_;
};

}  // namespace moe::MOE_GPU_NAMESPACE
