// The codes and scales of packed weights, as they were before they were packed.
#pragma once

#include "core/formats/quantized_field.h"
#include "cpu/gemm/panels.h"

namespace moe::cpu {

// Writes a field of one expert's matrix; of a gated product, the gate's or, if `up`, the other half's. See
// WeightCopies::copy_field().
Status unpack_field(const CpuPackedExperts& packed, int64_t expert, bool up, QuantizedField field, const Team& team,
                    const TensorView& target);

}  // namespace moe::cpu
