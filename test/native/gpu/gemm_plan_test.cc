#include "gpu/plan/gemm_plan.h"

#include <cstdint>
#include <string>
#include <vector>

#include "check.h"
#include "core/formats/find_format.h"
#include "gpu/devices.h"
#include "gpu/gemm/quantized_layout.h"
#include "gpu/gemm/tile_map.h"
#include "gpu/tile/interleave.h"

namespace moe::gpu::test {
namespace {

GemmProblem bf16_problem(int64_t rows, int64_t experts) {
  return {.x = DType::bf16,
          .format = &kBF16Format,
          .rows = rows,
          .experts = experts,
          .packed_rows = 1536,
          .columns = 2048,
          .x_aligned = true,
          .allowed = {}};
}

GemmPlan planned(const GemmProblem& problem, const DeviceTraits& traits) {
  GemmPlan plan;
  MOE_CHECK(plan_gemm(problem, traits, &plan).ok());
  return plan;
}

MOE_TEST(tiles_grow_with_the_rows_of_an_expert) {
  const auto height = [](int64_t rows, const DeviceTraits& traits) {
    return planned(bf16_problem(rows, 128), traits).tile.rows;
  };
  MOE_CHECK_EQUAL(height(8, kA100), 16);
  MOE_CHECK_EQUAL(height(8 * 128 + 127, kA100), 16);
  MOE_CHECK_EQUAL(height(9 * 128, kA100), 64);
  MOE_CHECK_EQUAL(height(64 * 128, kA100), 64);
  MOE_CHECK_EQUAL(height(65 * 128, kA100), 128);
  MOE_CHECK_EQUAL(height(1 << 20, kA100), 128);
  // Hopper's tensor cores multiply 64 rows at once.
  MOE_CHECK_EQUAL(height(8, kH100), 64);
  MOE_CHECK_EQUAL(height(64 * 128, kH100), 64);
  MOE_CHECK_EQUAL(height(65 * 128, kH100), 128);
}

MOE_TEST(tiles_fit_the_device) {
  for (const DeviceTraits& traits : {kA100, kH100, kSmall}) {
    for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
      for (const int64_t rows : {1, 1000, 100000}) {
        for (const bool tf32 : {false, true}) {
          const GemmPlan plan = planned({.x = type,
                                         .format = &plain_format(type),
                                         .rows = rows,
                                         .experts = 8,
                                         .packed_rows = 300,
                                         .columns = 300,
                                         .x_aligned = true,
                                         .allowed = {.tf32 = tf32}},
                                        traits);
          MOE_CHECK(plan.shared_bytes <= traits.shared_per_block);
          MOE_CHECK(plan.tile.threads() <= traits.max_threads);
          MOE_CHECK(plan.grid >= 1);
          MOE_CHECK(plan.grid <= static_cast<unsigned>(traits.multiprocessors * plan.tile.blocks));
        }
      }
    }
  }
  DeviceTraits few_threads = kA100;
  few_threads.max_threads = 128;
  MOE_CHECK_EQUAL(planned(bf16_problem(1 << 20, 8), few_threads).tile.rows, 64);
  DeviceTraits little_shared = kA100;
  little_shared.shared_per_block = 80 * 1024;
  MOE_CHECK_EQUAL(planned(bf16_problem(1 << 20, 8), little_shared).tile.rows, 64);
}

MOE_TEST(a_multiprocessor_holds_as_many_blocks_as_planned) {
  MOE_CHECK_EQUAL(planned(bf16_problem(1 << 20, 8), kH100).grid, 132u);
  MOE_CHECK_EQUAL(planned(bf16_problem(1 << 20, 8), kA100).grid, 108u);
  DeviceTraits more_shared = kA100;
  more_shared.shared_per_multiprocessor = kH100.shared_per_multiprocessor;
  MOE_CHECK_EQUAL(planned(bf16_problem(1 << 20, 8), more_shared).grid, 216u);
}

MOE_TEST(the_type_of_both_operands_picks_the_kernel) {
  const auto kernel = [](DType x, DType weight, bool tf32) {
    return planned({.x = x,
                    .format = &plain_format(weight),
                    .rows = 100,
                    .experts = 8,
                    .packed_rows = 64,
                    .columns = 64,
                    .x_aligned = true,
                    .allowed = {.tf32 = tf32}},
                   kA100)
        .kernel->name;
  };
  MOE_CHECK_EQUAL(std::string(kernel(DType::bf16, DType::bf16, false)), "mma_bf16");
  MOE_CHECK_EQUAL(std::string(kernel(DType::f16, DType::f16, true)), "mma_f16");
  MOE_CHECK_EQUAL(std::string(kernel(DType::f32, DType::f32, false)), "fma_f32");
  MOE_CHECK_EQUAL(std::string(kernel(DType::f32, DType::f32, true)), "mma_tf32");
  MOE_CHECK_EQUAL(std::string(kernel(DType::f32, DType::bf16, true)), "fma_bf16");
  MOE_CHECK_EQUAL(std::string(kernel(DType::bf16, DType::f16, false)), "fma_f16");
}

MOE_TEST(x_is_copied_where_its_rows_are_not_aligned_or_its_type_is_not_the_kernels) {
  const auto plan = [](DType x, DType weight, int64_t columns, bool aligned) {
    return planned({.x = x,
                    .format = &plain_format(weight),
                    .rows = 100,
                    .experts = 8,
                    .packed_rows = 64,
                    .columns = columns,
                    .x_aligned = aligned,
                    .allowed = {}},
                   kH100);
  };
  MOE_CHECK(!plan(DType::bf16, DType::bf16, 64, true).converts_x);
  MOE_CHECK_EQUAL(plan(DType::bf16, DType::bf16, 64, true).x_pitch, 64);
  MOE_CHECK(plan(DType::bf16, DType::bf16, 33, false).converts_x);
  MOE_CHECK_EQUAL(plan(DType::bf16, DType::bf16, 33, false).x_pitch, 40);
  MOE_CHECK(plan(DType::bf16, DType::f32, 64, true).converts_x);
  MOE_CHECK_EQUAL(plan(DType::bf16, DType::f32, 33, true).x_pitch, 36);
  MOE_CHECK(plan(DType::bf16, DType::f32, 64, true).x_dtype() == DType::f32);
  MOE_CHECK_EQUAL(converted_bytes(plan(DType::bf16, DType::f32, 33, true), 10), 10u * 36 * 4);
  MOE_CHECK_EQUAL(converted_bytes(plan(DType::f32, DType::f32, 32, true), 10), 0u);
}

MOE_TEST(rows_aligned_looks_at_address_and_length) {
  alignas(16) char memory[64];
  TensorView x;
  x.dtype = DType::bf16;
  x.rank = 2;
  x.data = memory;
  x.shape[0] = 2;
  x.shape[1] = 8;
  MOE_CHECK(rows_aligned(x));
  x.shape[1] = 12;
  MOE_CHECK(!rows_aligned(x));
  x.shape[1] = 8;
  x.data = memory + 8;
  MOE_CHECK(!rows_aligned(x));
}

MOE_TEST(packed_rows_alternate_gate_and_up_in_eights) {
  for (const int64_t outputs : {1, 7, 8, 9, 40}) {
    const PackedMatrix layout = kRowLayout.measure(
        {.experts = 3, .rows = 2 * outputs, .columns = 33, .format = &kBF16Format, .activation = Activation::swiglu});
    std::vector<int> seen(static_cast<size_t>(2 * outputs));
    for (int64_t row = 0; row < layout.rows; ++row) {
      const PackedRow place = unpack_row(row, true);
      MOE_CHECK_EQUAL(place.up, row / kInterleave % 2 == 1);
      if (place.column < outputs) ++seen[static_cast<size_t>(place.column + (place.up ? outputs : 0))];
    }
    for (const int count : seen) MOE_CHECK_EQUAL(count, 1);
    MOE_CHECK_EQUAL(layout.pitch, 128);
    MOE_CHECK_EQUAL(layout.bytes, layout.rows * 128);
  }
  const PackedMatrix ungated = kRowLayout.measure(
      {.experts = 1, .rows = 10, .columns = 33, .format = &kF32Format, .activation = Activation::relu});
  MOE_CHECK_EQUAL(ungated.rows, 10);
  MOE_CHECK_EQUAL(ungated.pitch, 256);
}

// Bytes of a matrix where it is stored, with scales of fewer than 8 bits without gaps.
double stored_bytes(const WeightFormat& format, int64_t rows, int64_t columns) {
  const auto values = [&](const ScaleLevel& level) {
    const int64_t groups = level.columns == 0 ? 1 : (columns + level.columns - 1) / level.columns;
    return level.absent() ? 0.0 : static_cast<double>((rows + level.rows - 1) / level.rows * groups);
  };
  const auto bytes = [](ScaleType type) {
    return type == ScaleType::u4 ? 0.5 : type == ScaleType::u6 ? 0.75 : static_cast<double>(scale_bytes(type));
  };
  const double scales = values(format.scales), super_scales = values(format.super_scales);
  const double offsets = values(format.super_zeros()) * bytes(format.super_zeros().type);
  const double both = scales * bytes(format.scales.type) + super_scales * bytes(format.super_scales.type);
  return static_cast<double>(rows * format.row_bytes(columns)) + both +
         (format.offset == Offset::minimum ? both : 0.0) + (format.offset == Offset::zero_point ? scales : 0.0) +
         (format.offset == Offset::scale_offset ? offsets : 0.0);
}

namespace {

// Bytes that codes of all elements take beyond the units that are stored.
double codes_beyond_units(const WeightFormat& format, int64_t rows, int64_t columns) {
  return static_cast<double>(rows * (columns * format.bits / 8 - format.row_bytes(columns)));
}

}  // namespace

MOE_TEST(packed_quantized_weights_take_hardly_more_than_stored_ones) {
  for (const WeightFormat* format : sample_formats()) {
    if (!is_quantized(*format)) continue;
    const PackedMatrix packed =
        kQuantizedLayout.measure({.experts = 1, .rows = 2880, .columns = 2880, .format = format});
    // Packing gives each element of a grid a code.
    const double stored = stored_bytes(*format, 2880, 2880) + codes_beyond_units(*format, 2880, 2880);
    MOE_CHECK(static_cast<double>(packed.bytes) >= 0.99 * stored);
    MOE_CHECK(static_cast<double>(packed.bytes) <= 1.05 * stored);
  }
}

MOE_TEST(arrays_of_quantized_weights_begin_at_16_bytes_and_do_not_overlap) {
  for (const WeightFormat* format : sample_formats()) {
    if (!is_quantized(*format)) continue;
    for (const int64_t columns : {0, 1, 16, 31, 100, 2880}) {
      const PackedMatrix packed =
          kQuantizedLayout.measure({.experts = 1, .rows = 37, .columns = columns, .format = format});
      MOE_CHECK_EQUAL(packed.padded_rows, 48);
      MOE_CHECK_EQUAL(packed.scales, (columns + 63) / 64 * 48 * 8 * format->bits);
      int64_t end = packed.scales;
      for (const int64_t first : {packed.super_scales, packed.zeros, packed.super_zeros, packed.bytes}) {
        if (first == 0) continue;
        MOE_CHECK(first >= end);
        MOE_CHECK_EQUAL(first % 16, 0);
        end = first;
      }
    }
  }
}

MOE_TEST(groups_are_found_without_a_division) {
  for (const int32_t columns : {16, 32, 48, 64, 112, 128, 256, 1008, 1024}) {
    const GroupSteps groups(ScaleLevel{.rows = 1, .columns = columns});
    for (const int step : {0, 1, 2, 3, 62, 63, 64, 65, 1000, 4095, 4096, (1 << 25) - 1}) {
      MOE_CHECK_EQUAL(groups.at(step), step / (columns / 16));
    }
  }
  MOE_CHECK_EQUAL(GroupSteps(ScaleLevel{.rows = 1, .columns = 0}).at(1 << 20), 0);
}

MOE_TEST(a_product_without_rows_has_no_blocks) { MOE_CHECK_EQUAL(planned(bf16_problem(0, 8), kH100).grid, 0u); }

MOE_TEST(tile_maps_have_room_for_the_worst_case) {
  // Every range of rows may end with a tile that is not full.
  MOE_CHECK_EQUAL(max_row_tiles(0, 8, 16), 0);
  MOE_CHECK_EQUAL(max_row_tiles(5, 8, 16), 5);
  MOE_CHECK_EQUAL(max_row_tiles(1000, 8, 16), 62 + 10);
  MOE_CHECK_EQUAL(tile_map_bytes(5, 8, 16), 16u + 5 * 16 + 2 * 11 * 4);
}

MOE_TEST(gemm_plans_can_be_printed) {
  MOE_CHECK_EQUAL(describe(planned(bf16_problem(1024, 8), kA100)),
                  "grouped GEMM mma_bf16, tile 128x128, 3 stages, grid 108 x 256, shared 98304, at most 18x12 tiles");
}

}  // namespace
}  // namespace moe::gpu::test
