// Checks of what would lead kernels out of memory, by sizes alone: no tensor here has memory.
#include "check.h"
#include "core/formats/find_format.h"
#include "core/layer/check.h"
#include "core/operators/check.h"
#include "core/operators/experts.h"
#include "core/operators/noise.h"
#include "core/operators/routing.h"
#include "core/operators/statistics.h"

namespace {

using namespace moe;

constexpr int64_t kMany = int64_t{1} << 32;

TensorView matrix(DType dtype, int64_t rows, int64_t columns) {
  return {.dtype = dtype, .rank = 2, .shape = {rows, columns}};
}

LayerDescription layer_of_ones() {
  LayerDescription layer;
  layer.hidden = layer.intermediate = layer.experts = layer.bank.count = 1;
  return layer;
}

// Of such a layer, with a routing of its own.
LayerForward routed_forward(int64_t tokens, int64_t choices) {
  LayerForward forward;
  forward.x = forward.y = matrix(DType::f32, tokens, 1);
  forward.ids = matrix(DType::i32, tokens, choices);
  forward.weights = matrix(DType::f32, tokens, choices);
  return forward;
}

}  // namespace

MOE_TEST(more_experts_than_an_id_can_name_are_refused) {
  MOE_CHECK(GatingRule{}.fits(INT32_MAX - 1));
  MOE_CHECK(!GatingRule{}.fits(INT32_MAX));
  // Kernels count experts in 32 bits: these would be one.
  const int64_t experts = kMany + 1;
  Gating gating;
  gating.logits = matrix(DType::f32, 1, experts);
  gating.ids = matrix(DType::i32, 1, 1);
  gating.weights = matrix(DType::f32, 1, 1);
  MOE_CHECK(check_description(gating).code == Code::shape_mismatch);
  HierarchicalGating hierarchical;
  hierarchical.group_logits = matrix(DType::f32, 1, 2);
  hierarchical.logits = matrix(DType::f32, 1, INT32_MAX - 1);
  hierarchical.ids = matrix(DType::i32, 1, 1);
  hierarchical.weights = matrix(DType::f32, 1, 1);
  MOE_CHECK(check_description(hierarchical).ok());
  hierarchical.logits = matrix(DType::f32, 1, kMany);
  hierarchical.group_logits = matrix(DType::f32, 1, 4);
  MOE_CHECK(check_description(hierarchical).code == Code::shape_mismatch);
  ExpertLoad load;
  load.clean = load.noisy = load.deviation = matrix(DType::f32, 1, experts);
  load.load = {.dtype = DType::f32, .rank = 1, .shape = {experts}};
  MOE_CHECK(check_description(load).code == Code::shape_mismatch);
}

MOE_TEST(more_slots_of_a_token_than_a_row_can_number_are_refused) {
  LayerDescription layer = layer_of_ones();
  const auto check = [&](int64_t tokens, int64_t choices) {
    return check_forward(layer, kRoutedStages, routed_forward(tokens, choices));
  };
  MOE_CHECK(check(1, INT32_MAX).ok());
  MOE_CHECK(check(1, kMany + 1).code == Code::shape_mismatch);
  MOE_CHECK(check(0, kMany + 1).ok());
  layer.shared_experts = 1;
  MOE_CHECK(check(1, INT32_MAX).code == Code::shape_mismatch);
}

MOE_TEST(more_rows_to_keep_than_a_pass_can_number_are_refused) {
  LayerDescription layer = layer_of_ones();
  const auto check = [&](int64_t tokens, int64_t choices) {
    LayerForward forward = routed_forward(tokens, choices);
    forward.pre = matrix(DType::f32, tokens * layer.slots(choices), layer.gate_up_rows());
    return check_forward(layer, kRoutedStages, forward);
  };
  MOE_CHECK(check(INT32_MAX / 2, 2).ok());
  MOE_CHECK(check(INT32_MAX / 2 + 1, 2).code == Code::shape_mismatch);
  layer.shared_experts = 1;
  MOE_CHECK(check(INT32_MAX / 2 + 1, 1).code == Code::shape_mismatch);
  layer.shared_experts = 0;
  MOE_CHECK(check(INT32_MAX, 0).ok());
  MOE_CHECK(check(kMany, 0).code == Code::shape_mismatch);
  MOE_CHECK(check(0, INT32_MAX).ok());
}

MOE_TEST(rows_are_counted_in_64_bits_where_counts_are_not_wanted) {
  MOE_CHECK_EQUAL(TokenMask({}).count(0, kMany + 1), kMany + 1);
  ColumnMeans means;
  means.values = matrix(DType::f32, 2 * kMany, 1);
  means.means = matrix(DType::f32, 2, 1);
  MOE_CHECK(check_description(means).ok());
  means.counts = {.dtype = DType::i32, .rank = 1, .shape = {2}};
  MOE_CHECK(check_description(means).code == Code::shape_mismatch);
  means.values.shape[0] = 2 * int64_t{INT32_MAX};
  MOE_CHECK(check_description(means).ok());
}

MOE_TEST(codes_and_scales_of_a_row_lie_side_by_side) {
  const char none = 0;
  const auto bytes = [&](int64_t rows, int64_t columns) { return dense_matrix(&none, DType::u8, rows, columns); };
  WeightView weight{.format = find_format("mxfp4"), .rows = 2, .columns = 64, .codes = bytes(2, 32)};
  weight.scales = bytes(2, 2);
  MOE_CHECK(fits_weight(weight));
  WeightView apart = weight;
  apart.codes.column_stride = 2;
  MOE_CHECK(!fits_weight(apart));
  apart = weight;
  apart.scales.column_stride = 2;
  MOE_CHECK(!fits_weight(apart));
  WeightView plain = plain_weight(dense_matrix(&none, DType::bf16, 2, 64));
  plain.codes.column_stride = 2;
  MOE_CHECK(fits_weight(plain));
}

MOE_TEST(a_matrix_whose_number_of_elements_overflows_does_not_fit_a_small_tensor) {
  static const float value = 0;
  // 2^64 + 4 elements, which are all the same one.
  CopyMatrix copy;
  copy.source = {.data = &value, .rows = 968973220, .columns = 19037413721, .row_stride = 0, .column_stride = 0};
  copy.target = {.dtype = DType::f32, .rank = 1, .shape = {4}};
  MOE_CHECK(check_description(copy).code == Code::shape_mismatch);
  copy.source.rows = copy.source.columns = 2;
  MOE_CHECK(check_description(copy).ok());
  copy.target.shape[0] = 5;
  MOE_CHECK(check_description(copy).code == Code::shape_mismatch);
}
