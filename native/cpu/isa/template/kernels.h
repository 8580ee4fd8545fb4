// The kernels of one instruction set, in terms of its Vector. Included once per instruction set, inside its namespace
// and target region, after a Vector header and kTileRows; so this folder has no include guards, and nothing in it may
// be included from elsewhere.

constexpr int kWidth = Vector::width;
constexpr int kPanelVectors = 2;
constexpr int kPanelColumns = kPanelVectors * kWidth;

#include "cpu/isa/template/tiles.h"

#include "cpu/isa/template/activations.h"
#include "cpu/isa/template/ceilings.h"
#include "cpu/isa/template/combine.h"
#include "cpu/isa/template/conversions.h"
#include "cpu/isa/template/rows.h"
#include "cpu/isa/template/scores.h"
#include "cpu/isa/template/sorting_network.h"
#include "cpu/isa/template/top_k.h"

#include "cpu/isa/template/selection.h"
#include "cpu/isa/template/weights.h"

#include "cpu/isa/template/gating.h"
#include "cpu/isa/template/noise.h"
#include "cpu/isa/template/random.h"
#include "cpu/isa/template/router_scores.h"
#include "cpu/isa/template/softmax.h"

// The kernel table of an instruction set. Without bf16 pair products, `bf16_pairs` is null and `bf16_peak` empty.
constexpr Kernels make_kernels(const char* name, const TileKernels* bf16_pairs, PeakLoop bf16_peak) {
  return {
      name,
      kPanelColumns,
      tiles<PlainWeight<float>>(Arithmetic::f32),
      tiles<PlainWeight<f16>>(Arithmetic::f32),
      tiles<PairedWeight>(Arithmetic::f32),
      bf16_pairs,
      to_f32,
      from_f32,
      pack_row,
      pack_columns,
      activate,
      gate,
      combine,
      softmax,
      softmax_scores,
      sigmoid_scores,
      add_noise,
      add_load,
      draw,
      peak_loop<PlainWeight<float>>(),
      bf16_peak,
      read_stream,
  };
}
