// How packed expert weights lie in memory.
#pragma once

#include <cstdint>

#include "core/operators/experts.h"

namespace moe::gpu {

// One expert's packed matrix, in bytes from its beginning.
struct PackedMatrix {
  int64_t rows = 0;               // in the order of tile/interleave.h
  int64_t pitch = 0;              // from one row of codes to the next
  int64_t scales = 0, zeros = 0;  // where these begin, in formats that have them
  int64_t bytes = 0;              // from one expert to the next
};

// A layout that kernels read. All kernels of a weight format share one on a given GPU, since weights are packed once
// and multiplied with tokens of any dtype.
struct WeightLayout {
  const char* id;
  PackedMatrix (*measure)(const ExpertProduct& product);
};

// Rows of packed codes: gate and up rows alternate where the product is gated, which fills up their last group.
int64_t packed_rows(const ExpertProduct& product);

// Plain formats: rows of elements, filled up with zeros to whole stages of the tensor-core kernel.
extern const WeightLayout kRowLayout;
// Bytes of K in such a stage.
constexpr int64_t kStageRowBytes = 128;

}  // namespace moe::gpu
