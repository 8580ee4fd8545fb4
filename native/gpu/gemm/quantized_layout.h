// The layout of packed weights of quantised formats, one for all. Rows stand side by side in every array, so that what
// a tile needs of it at one time is one piece of memory.
//
// Codes come in stages of 64 columns, those in chunks of 8. Columns 2t and 2t + 1 of every chunk belong to part t = 0
// .. 3, because lane t of a tensor-core fragment multiplies just these. The codes of an odd number of bits, or of 6,
// are divided into low and high bits. A stage's low bits, and high bits of 2, take quads of 16 bytes for every row, a
// word for each part; high bits of 1 take half a quad. With b bits, a word has 16 / b chunks; chunk i has its even
// column's bits from bit b i on and its odd column's from bit b i + 16 on, so that one shift and one mask leave both as
// 16-bit numbers. (A half word of high bits has 8 chunks, and its odd columns from bit 8 on.)
//
//   codes    [stages] of: low quads [rows], high quad or half a quad [rows]
//   scales, super scales, zeros, super zeros   [groups][rows] each, as they are stored
//
// Signed codes have their top bit inverted: they count from -2^(bits - 1). Scales in blocks of rows are repeated for
// every row. A minimum beside a scale of four bits is the upper half of the scale's byte.
#pragma once

#include "core/formats/weight_format.h"
#include "gpu/gemm/weight_layout.h"

namespace moe::gpu {

constexpr int kCodeStage = 64;
constexpr int kCodeChunk = 8;
constexpr int kCodeParts = 4;
constexpr int kQuadBytes = 16;
// Rows are padded to multiples of this, so that every array and its pieces begin at multiples of 16 bytes.
constexpr int kRowPadding = 16;
// Groups of columns are multiples of this.
constexpr int kGroupStep = 16;

extern const WeightLayout kQuantizedLayout;

constexpr bool has_whole_steps(const ScaleLevel& level) { return level.columns % kGroupStep == 0; }

// Whether this is a quantised format of the layout.
constexpr bool is_quantized(const WeightFormat& f) {
  const bool codes = f.code == CodeType::table  ? f.bits == 3 || f.bits == 4
                     : f.code == CodeType::e4m3 ? f.bits == 8
                                                : !f.plain() && f.bits >= 2 && f.bits <= 8 && f.bits != 7;
  return codes && !f.scales.absent() && has_whole_steps(f.scales) && has_whole_steps(f.super_scales);
}

MOE_HOST_DEVICE constexpr int low_bits(int bits) { return bits == 3 ? 2 : bits == 5 || bits == 6 ? 4 : bits; }
MOE_HOST_DEVICE constexpr int high_bits(int bits) { return bits - low_bits(bits); }
MOE_HOST_DEVICE constexpr int low_quads(int bits) { return low_bits(bits) / 2; }
// Bytes of a stage for one row.
MOE_HOST_DEVICE constexpr int stage_bytes(int bits) { return kCodeStage * bits / 8; }

// Whether a minimum shares the byte of its scale.
MOE_HOST_DEVICE constexpr bool shares_byte(const WeightFormat& format) {
  return format.offset == Offset::minimum && format.scales.type == ScaleType::u4;
}

// The groups of one level. Steps are of kGroupStep columns.
struct GroupSteps {
  // ceil(2^31 / steps of a group). The quotient is exact for the first 2^31 / (steps of a group) steps, that is, for
  // all columns below 2^39 / (columns of a group).
  uint32_t reciprocal = 0;

  constexpr GroupSteps() = default;
  MOE_HOST_DEVICE constexpr explicit GroupSteps(const ScaleLevel& level) {
    const auto steps = static_cast<uint32_t>(level.columns / kGroupStep);
    if (steps > 0) reciprocal = ((1u << 31) + steps - 1) / steps;
  }
  // The group of a step.
  MOE_HOST_DEVICE constexpr int at(int step) const {
    return static_cast<int>(static_cast<uint64_t>(static_cast<uint32_t>(step)) * reciprocal >> 31);
  }
};

}  // namespace moe::gpu
