// The table of grouped GEMM kernels, and the choice among them.
#include "gpu/gemm/kernels.h"

#include <algorithm>
#include <set>
#include <string>

#include "check.h"
#include "core/formats/find_format.h"
#include "core/formats/named.h"
#include "gpu/devices.h"
#include "gpu/gemm/mma_quantized.h"

namespace moe::gpu::test {
namespace {

constexpr DType kTokens[] = {DType::f32, DType::f16, DType::bf16};
constexpr AllowedRoundings kAll{.tf32 = true, .fp8_sums = true};

MOE_TEST(rows_have_names_of_their_own_and_say_what_they_compute) {
  std::set<std::string> names;
  for (const GemmKernel* kernel : gemm_kernels()) {
    MOE_CHECK(names.insert(kernel->name).second);
    MOE_CHECK(std::string(kernel->numbers) != "");
    MOE_CHECK(kernel->tokens.empty() == kernel->takes_codes() && !kernel->tiles.empty());
    MOE_CHECK(kernel->layout != nullptr && kernel->shared_bytes != nullptr && kernel->plan != nullptr);
    MOE_CHECK(kernel->formats.include(*kernel->formats.example));
    for (const DType tokens : kernel->tokens) MOE_CHECK(info(tokens).bytes <= info(kernel->x).bytes);
  }
}

MOE_TEST(tiles_grow_and_the_lowest_runs_everywhere) {
  for (const GemmKernel* kernel : gemm_kernels()) {
    int rows = 0;
    for (const GemmTile& tile : kernel->tiles) {
      MOE_CHECK(tile.rows > rows);
      rows = tile.rows;
    }
    for (const WeightFormat* format : sample_formats()) {
      if (!kernel->formats.include(*format)) continue;
      MOE_CHECK(kernel->shared_bytes(kernel->tiles.front(), *format) <= kSmall.shared_per_block);
    }
    MOE_CHECK(kernel->tiles.front().threads() <= 128);
  }
}

MOE_TEST(every_format_takes_tokens_of_every_dtype_in_one_layout) {
  for (const DeviceTraits& traits : {kA100, kL40S, kH100, kSmall}) {
    for (const WeightFormat* format : sample_formats()) {
      const GemmKernel* best = best_gemm_kernel(*format, traits);
      MOE_CHECK(best != nullptr);
      for (const DType tokens : kTokens) {
        for (const AllowedRoundings& allowed : {AllowedRoundings{}, kAll}) {
          const GemmKernel* kernel =
              choose_gemm_kernel({.tokens = tokens, .format = format, .allowed = allowed}, traits);
          MOE_CHECK(kernel != nullptr);
          if (best == nullptr || kernel == nullptr) continue;
          MOE_CHECK(kernel->layout == best->layout);
          MOE_CHECK(kernel->formats.include(*format));
          MOE_CHECK(allowed.include(kernel->rounds));
        }
      }
    }
  }
}

MOE_TEST(tensor_cores_multiply_tokens_and_weights_of_one_type) {
  const auto name = [](DType tokens, const WeightFormat& format, bool tf32, const DeviceTraits& traits = kH100) {
    return std::string(
        choose_gemm_kernel({.tokens = tokens, .format = &format, .allowed = {.tf32 = tf32}}, traits)->name);
  };
  MOE_CHECK_EQUAL(name(DType::bf16, kBF16Format, false, kA100), "mma_bf16");
  MOE_CHECK_EQUAL(name(DType::f16, kF16Format, false, kL40S), "mma_f16");
  MOE_CHECK_EQUAL(name(DType::bf16, kBF16Format, false), "wgmma_bf16");
  MOE_CHECK_EQUAL(name(DType::f16, kF16Format, false), "wgmma_f16");
  MOE_CHECK_EQUAL(name(DType::f32, kF32Format, true), "mma_tf32");
  MOE_CHECK_EQUAL(name(DType::f32, kF32Format, false), "fma_f32");
  MOE_CHECK_EQUAL(name(DType::bf16, kF32Format, true), "fma_f32");
  MOE_CHECK_EQUAL(name(DType::f16, kBF16Format, true), "fma_bf16");
}

MOE_TEST(tensor_cores_multiply_quantised_weights_whose_codes_are_exact) {
  const auto names = [](const char* format, const DeviceTraits& traits) {
    std::string names;
    for (const DType tokens : kTokens) {
      names += choose_gemm_kernel({.tokens = tokens, .format = find_format(format)}, traits)->name + std::string(" ");
    }
    return names;
  };
  for (const WeightFormat* format : sample_formats()) {
    if (format->plain() || format == &kTestU4G16Format) continue;
    const std::string name = format->name;
    const bool has_minima = format->offset == Offset::minimum;
    const bool exact =
        (!has_minima || may_have_minima(format->bits)) && !name.starts_with("nf4") && !name.starts_with("fp4");
    const std::string fma = "fma_quantized fma_quantized fma_quantized ";
    const std::string mma = "fma_quantized mma_quantized_f16 mma_quantized_bf16 ";
    const std::string wgmma = "fma_quantized wgmma_quantized_f16 wgmma_quantized_bf16 ";
    MOE_CHECK_EQUAL(names(format->name, kA100), exact ? mma : fma);
    MOE_CHECK_EQUAL(names(format->name, kH100), exact ? wgmma : fma);
  }
  MOE_CHECK_EQUAL(names("test_u4_g16", kH100), "fma_test_u4_g16 fma_test_u4_g16 fma_test_u4_g16 ");
}

MOE_TEST(codes_take_a_kernel_of_their_own_where_weights_are_integers) {
  const auto name = [](TokenFormat tokens, const WeightFormat& format, const DeviceTraits& traits) {
    const GemmKernel* kernel =
        choose_gemm_kernel({.tokens = {DType::bf16, token_scheme(tokens, format)}, .format = &format}, traits);
    return std::string(kernel == nullptr ? "none" : kernel->name);
  };
  for (const DeviceTraits& traits : {kA100, kL40S, kH100, kSmall}) {
    for (const WeightFormat* format : sample_formats()) {
      if (format->plain() || format == &kTestU4G16Format) continue;
      const std::string prefix = traits.compute_capability == 90 ? "wgmma" : "mma";
      const std::string bf16 = has_exact_codes(*format) ? prefix + "_quantized_bf16" : "fma_quantized";
      const bool bytes = has_exact_codes(*format) && format->code != CodeType::e4m3;
      MOE_CHECK_EQUAL(name(TokenFormat::int8, *format, traits), bytes ? prefix + "_quantized_int8" : bf16);
      MOE_CHECK_EQUAL(name(TokenFormat::fp8, *format, traits), bf16);
    }
  }
  // Scales of columns need a kernel that knows them.
  const RowKind in_groups(DType::bf16, {TokenFormat::fp8, 128});
  const auto choice = [&](const char* format) {
    return choose_gemm_kernel({.tokens = in_groups, .format = find_format(format)}, kH100);
  };
  MOE_CHECK(choice("e4m3_b128_f32") != nullptr && choice("i8_channel_f32") == nullptr && choice("bf16") == nullptr);
  // Sums of more products of bytes than an integer of 32 bits holds.
  WeightFormat wide = *find_format("u8_g128_f32");
  wide.scales.columns = 1 << 15;
  MOE_CHECK(has_integer_codes(wide));
  wide.scales.columns = 1 << 16;
  MOE_CHECK(has_exact_codes(wide) && !has_integer_codes(wide));
}

MOE_TEST(codes_of_fp8_take_a_kernel_of_their_own_where_it_exists_and_is_allowed) {
  const auto name = [](const WeightFormat& format, TokenFormat tokens, const DeviceTraits& traits, bool allowed) {
    return std::string(choose_gemm_kernel({.tokens = {DType::bf16, token_scheme(tokens, format)},
                                           .format = &format,
                                           .allowed = {.tf32 = true, .fp8_sums = allowed}},
                                          traits)
                           ->name);
  };
  for (const WeightFormat* format : sample_formats()) {
    if (format->plain() || format == &kTestU4G16Format) continue;
    for (const TokenFormat tokens : {TokenFormat::int8, TokenFormat::fp8, TokenFormat::fp8_ue8m0}) {
      const bool fp8 = is_fp8(tokens) && format->code == CodeType::e4m3;
      for (const auto& [traits, own] :
           {std::pair(kL40S, "mma_quantized_fp8"), std::pair(kH100, "wgmma_quantized_fp8")}) {
        const std::string otherwise = name(*format, tokens, traits, false);
        MOE_CHECK(otherwise != own);
        MOE_CHECK_EQUAL(name(*format, tokens, traits, true), fp8 ? own : otherwise);
      }
      // Others have no unit for it.
      for (const DeviceTraits& traits : {kA100, kSmall}) {
        MOE_CHECK_EQUAL(name(*format, tokens, traits, true), name(*format, tokens, traits, false));
      }
    }
  }
}

MOE_TEST(sums_of_codes_are_as_long_as_they_may_be) {
  const auto columns = [](TokenFormat codes, int group) {
    return summed_columns(codes, {.rows = 1, .columns = group});
  };
  for (const int group : {16, 48, 128}) {
    for (const TokenFormat codes : {TokenFormat::none, TokenFormat::int8, TokenFormat::fp8}) {
      MOE_CHECK_EQUAL(columns(codes, group), group);
    }
  }
  MOE_CHECK_EQUAL(columns(TokenFormat::fp8, 0), 128);
  MOE_CHECK_EQUAL(columns(TokenFormat::fp8, 256), 128);
  MOE_CHECK_EQUAL(columns(TokenFormat::int8, 256), 256);
  MOE_CHECK_EQUAL(columns(TokenFormat::int8, 0), 1 << 15);
  // Sums that would go past the end of a group.
  WeightFormat wide = *find_format("e4m3_g128_f32");
  wide.scales.columns = 192;
  MOE_CHECK(has_exact_codes(wide) && !has_fp8_codes(wide));
  wide.scales.columns = 256;
  MOE_CHECK(has_fp8_codes(wide));
}

MOE_TEST(tables_are_multiples_of_a_power_of_two) {
  for (const WeightFormat* format :
       {&kMXFP4Format, &kIQ4_XSFormat, &kIQ3_XXSFormat, &kIQ3_SFormat, &kIQ2_XXSFormat, &kIQ1_SFormat}) {
    const ByteTable table = byte_table(*format);
    MOE_CHECK(table.unit > 0);
    for (int code = 0; code < 1 << format->bits; ++code) {
      MOE_CHECK_EQUAL(static_cast<float>(table.bytes[code] - 128) * table.unit, format->table[code]);
    }
  }
  MOE_CHECK_EQUAL(byte_table(*find_format("nf4_g64_f32")).unit, 0.0f);
  MOE_CHECK(is_e2m1(kMXFP4Format) && is_e2m1(kNVFP4Format));
  MOE_CHECK(!is_e2m1(kIQ4_XSFormat) && !is_e2m1(*find_format("e4m3_g32_e8m0")));
}

MOE_TEST(a_stage_has_room_for_every_group_that_it_touches) {
  for (const int32_t columns : {0, 16, 32, 48, 64, 80, 112, 128, 1024}) {
    const ScaleLevel level{.rows = 1, .columns = columns};
    const GroupSteps groups(level);
    int most = 0;
    for (int step = 0; step < 1024; step += 4) most = std::max(most, groups.at(step + 3) - groups.at(step) + 1);
    MOE_CHECK_EQUAL(groups_in_stage(level), most);
  }
}

MOE_TEST(a_kernel_of_one_architecture_runs_on_that_alone) {
  constexpr ComputeCapabilities hopper{.first = 90, .last = 90};
  MOE_CHECK(!hopper.include(89) && hopper.include(90) && !hopper.include(100));
  constexpr ComputeCapabilities ampere{};
  MOE_CHECK(!ampere.include(75) && ampere.include(80) && ampere.include(120));
}

MOE_TEST(kernels_of_an_earlier_gpu_must_run_on_this_one) {
  const auto chosen = [](DeviceTraits traits, int capability, GemmChoice choice) {
    traits.own_capability = traits.compute_capability;
    traits.compute_capability = capability;
    choice.allowed = {.fp8_sums = true};
    return std::string(choose_gemm_kernel(choice, traits)->name);
  };
  const GemmChoice bf16{.tokens = DType::bf16, .format = &kBF16Format};
  DeviceTraits blackwell = kH100;
  blackwell.compute_capability = 120;
  MOE_CHECK_EQUAL(chosen(kH100, 90, bf16), "wgmma_bf16");
  MOE_CHECK_EQUAL(chosen(kH100, 80, bf16), "mma_bf16");
  MOE_CHECK_EQUAL(chosen(blackwell, 90, bf16), "mma_bf16");
  const GemmChoice fp8{.tokens = RowKind(DType::bf16, {TokenFormat::fp8, 128}), .format = find_format("e4m3_b128_f32")};
  MOE_CHECK_EQUAL(chosen(kL40S, 89, fp8), "mma_quantized_fp8");
  MOE_CHECK_EQUAL(chosen(blackwell, 89, fp8), "mma_quantized_fp8");
  MOE_CHECK_EQUAL(chosen(kH100, 90, fp8), "wgmma_quantized_fp8");
  MOE_CHECK_EQUAL(chosen(kH100, 89, fp8), "mma_quantized_bf16");
}

MOE_TEST(formats_without_a_kernel_are_refused_by_name) {
  constexpr WeightFormat other{.name = "other", .code = CodeType::signed_integer, .bits = 8};
  MOE_CHECK(best_gemm_kernel(other, kH100) == nullptr);
  MOE_CHECK(choose_gemm_kernel({.tokens = DType::f32, .format = &other}, kH100) == nullptr);
  const GemmKernel* kernel = nullptr;
  const Status status = find_gemm_kernel({.tokens = DType::f32, .format = &other}, kH100, &kernel);
  MOE_CHECK(status.code == Code::unsupported_dtype);
  MOE_CHECK(status.message.find("weights in other: store them in one of test_u4_g16, bf16, f16, f32, quantised to "
                                "integers") != std::string::npos);
  DeviceTraits old = kA100;
  old.compute_capability = 75;
  MOE_CHECK(find_best_gemm_kernel(kBF16Format, old, &kernel).code == Code::unsupported_dtype);
}

MOE_TEST(the_table_says_which_rows_this_gpu_uses) {
  const auto row = [](const DeviceTraits* traits, const std::string& name) {
    for (const KernelDescription& each : describe_kernels("cuda", traits)) {
      if (each.name == name) return each;
    }
    return KernelDescription{};
  };
  MOE_CHECK_EQUAL(row(&kH100, "wgmma_bf16").chosen, "bf16");
  MOE_CHECK_EQUAL(row(&kH100, "wgmma_bf16").needs, "compute capability 9.0");
  MOE_CHECK_EQUAL(row(&kH100, "mma_bf16").chosen, "");
  MOE_CHECK_EQUAL(row(&kA100, "mma_bf16").chosen, "bf16");
  MOE_CHECK_EQUAL(row(&kH100, "mma_bf16").needs, "compute capability 8.0 or later");
  MOE_CHECK_EQUAL(row(&kH100, "mma_bf16").layout, "rows128");
  MOE_CHECK_EQUAL(row(&kH100, "mma_tf32").chosen, "f32 with tf32");
  MOE_CHECK_EQUAL(row(&kH100, "fma_f32").tokens, "f32, f16, bf16");
  MOE_CHECK_EQUAL(row(&kH100, "fma_f32").chosen, "f32, f16, bf16");
  MOE_CHECK_EQUAL(row(&kH100, "fma_bf16").chosen, "f32, f16");
  MOE_CHECK_EQUAL(row(&kH100, "wgmma_quantized_bf16").chosen, "bf16");
  MOE_CHECK_EQUAL(row(&kH100, "wgmma_quantized_fp8").chosen, "fp8 codes with fp8Sums");
  MOE_CHECK_EQUAL(row(&kA100, "wgmma_quantized_bf16").chosen, "");
  MOE_CHECK_EQUAL(row(&kH100, "mma_quantized_bf16").chosen, "");
  MOE_CHECK_EQUAL(row(&kA100, "mma_quantized_int8").tokens, "int8 codes");
  MOE_CHECK_EQUAL(row(&kA100, "mma_quantized_int8").chosen, "int8 codes");
  MOE_CHECK_EQUAL(row(&kH100, "wgmma_quantized_int8").chosen, "int8 codes");
  MOE_CHECK_EQUAL(row(&kL40S, "mma_quantized_fp8").tokens, "fp8 codes");
  MOE_CHECK_EQUAL(row(&kL40S, "mma_quantized_fp8").chosen, "fp8 codes with fp8Sums");
  MOE_CHECK_EQUAL(row(&kL40S, "mma_quantized_fp8").needs, "compute capability 8.9, 12.0 or later");
  MOE_CHECK_EQUAL(row(&kA100, "mma_quantized_fp8").chosen, "");
  MOE_CHECK_EQUAL(row(nullptr, "fma_bf16").chosen, "");
}

}  // namespace
}  // namespace moe::gpu::test
