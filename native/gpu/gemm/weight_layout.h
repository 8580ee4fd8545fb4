// How packed expert weights are laid out in memory.
#pragma once

#include <cstdint>

#include "core/operators/experts.h"

namespace moe::gpu {

// One expert's packed matrix; offsets are in bytes from its beginning.
struct PackedMatrix {
  int64_t rows = 0;   // in the order of tile/interleave.h
  int64_t pitch = 0;  // from one row of codes, or one stage of them, to the next
  int64_t padded_rows = 0;
  // Where these begin, if the format has them.
  int64_t scales = 0, super_scales = 0, zeros = 0, super_zeros = 0;
  int64_t bytes = 0;  // from one expert to the next
};

// A layout that kernels read. On a given GPU all kernels of a weight format share one layout, because weights are
// packed once and multiplied with tokens of any dtype.
struct WeightLayout {
  const char* id;  // with the format's name, it names what packed weights are
  PackedMatrix (*measure)(const ExpertProduct& product);
};

// Rows of packed codes. If the product is gated, gate and up rows alternate in groups and the last group is padded.
int64_t packed_rows(const ExpertProduct& product);

// For plain formats: rows of elements, padded with zeros to whole stages of the tensor-core kernel.
extern const WeightLayout kRowLayout;
// Bytes of K per such stage.
constexpr int64_t kStageRowBytes = 128;

}  // namespace moe::gpu
