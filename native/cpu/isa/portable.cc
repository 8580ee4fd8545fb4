// Plain C++ for every other processor.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "cpu/isa/isa.h"

namespace moe::cpu::portable {

#include "cpu/isa/vector_portable.h"
constexpr int kTileRows = 6;
#include "cpu/isa/kernels_template.h"

const Kernels kKernels = {
    "portable",
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

}  // namespace moe::cpu::portable
