// AVX2 with FMA and F16C.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "cpu/isa/isa.h"

#define MOE_TARGET "avx2,fma,f16c"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::avx2 {

#include "cpu/isa/vector_avx2.h"
constexpr int kTileRows = 6;
#include "cpu/isa/kernels_template.h"

const Kernels kKernels = {
    "avx2",
    kPanelColumns,
    tiles<PlainWeight<float>>(Arithmetic::f32),
    tiles<PlainWeight<f16>>(Arithmetic::f32),
    tiles<PairedWeight>(Arithmetic::f32),
    nullptr,
    to_f32,
    from_f32,
    pack_row,
    pack_columns,
    activate,
    gate,
    combine,
    peak_loop<PlainWeight<float>>(),
    {nullptr, 0},
    read_stream,
};

}  // namespace moe::cpu::avx2
#include "cpu/isa/target_end.h"
