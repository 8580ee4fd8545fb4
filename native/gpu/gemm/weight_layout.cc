#include "gpu/gemm/weight_layout.h"

#include "gpu/plan/plan_parts.h"
#include "gpu/tile/interleave.h"

namespace moe::gpu {

int64_t packed_rows(const ExpertProduct& product) {
  return product.gated() ? 2 * round_up(product.outputs(), kInterleave) : product.rows;
}

const WeightLayout kRowLayout{.id = "rows128", .measure = [](const ExpertProduct& product) {
                                const int64_t rows = packed_rows(product);
                                const int64_t pitch =
                                    round_up(product.format->row_bytes(product.columns), kStageRowBytes);
                                return PackedMatrix{.rows = rows, .pitch = pitch, .bytes = rows * pitch};
                              }};

}  // namespace moe::gpu
