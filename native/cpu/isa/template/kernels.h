// The kernels of one instruction set, in terms of its Vector. Included once per instruction set, inside its namespace
// and target region, after a Vector header and kTileRows. So this folder has no include guards, and nothing in it may
// be included from elsewhere.

#include "cpu/isa/template/products.h"

#include "cpu/isa/template/activations.h"

#include "cpu/isa/template/activation_columns.h"
#include "cpu/isa/template/combine.h"
#include "cpu/isa/template/finishing.h"
#include "cpu/isa/template/gemm.h"
#include "cpu/isa/template/rows.h"
#include "cpu/isa/template/scores.h"
#include "cpu/isa/template/sorting_network.h"
#include "cpu/isa/template/transpose.h"

#include "cpu/isa/template/conversions.h"
#include "cpu/isa/template/top_k.h"

#include "cpu/isa/template/selection.h"
#include "cpu/isa/template/weights.h"

#include "cpu/isa/template/gating.h"
#include "cpu/isa/template/noise.h"
#include "cpu/isa/template/random.h"
#include "cpu/isa/template/router_scores.h"
#include "cpu/isa/template/softmax.h"
#include "cpu/isa/template/tokens.h"

// The kernels of an instruction set with this table of matrix products.
constexpr Kernels make_kernels(const char* name, const char* needs, std::span<const GemmKernel> gemm,
                               PeakLoop int8_peak) {
  return {
      .name = name,
      .needs = needs,
      .panel_columns = kPanelColumns,
      .gemm = gemm,
      .to_f32 = to_f32,
      .from_f32 = from_f32,
      .round_tokens = round_tokens,
      .pack_row = pack_row,
      .pack_columns = pack_columns,
      .pack_tile_transposed = pack_tile_transposed,
      .transpose_words = transpose_words,
      .scale_rows = scale_rows,
      .store_rows = store_rows,
      .end_streams = Vector::end_streams,
      .activate = activate,
      .finishing = finishing,
      .activate_columns = activate_columns,
      .differentiate_columns = differentiate_columns,
      .gate = gate,
      .weigh = weigh,
      .combine = combine,
      .dot = dot,
      .softmax = softmax,
      .softmax_scores = softmax_scores,
      .sigmoid_scores = sigmoid_scores,
      .add_noise = add_noise,
      .add_load = add_load,
      .draw = draw,
      .f32_peak = peak_loop<PlainWeight<float>>(),
      .bf16_peak = {},
      .int8_peak = int8_peak,
      .read_memory = {read_memory<Reading::streams>, read_memory<Reading::streams_past_caches>,
                      read_memory<Reading::far_ahead>},
  };
}
