#include "core/formats/tables.h"
#include "gpu/gemm/fma.h"
#include "gpu/gemm/kernels.h"
#include "gpu/gemm/quantized_layout.h"

namespace moe::gpu {
namespace {

// Its codes are not exact in 16 bits, so that tokens of every dtype are multiplied here.
constexpr WeightFormat kExample = table_format({.name = "nf4_g64_f32", .scales = {ScaleType::f32, 1, 64}}, kNF4Table);
constexpr WeightFormats kFormats{
    .words = "quantised in groups of columns that are multiples of 16", .include = is_quantized, .example = &kExample};

}  // namespace

constexpr GemmKernel kFmaQuantized = fma_row("fma_quantized", kFormats, kQuantizedLayout);

}  // namespace moe::gpu
