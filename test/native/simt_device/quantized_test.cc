// Experts in every quantised format on the simulated GPU.
#include <vector>

#include "core/formats/find_format.h"
#include "gpu/target/simt/devices.h"
#include "quantized_products.h"

namespace {

using namespace moe;

std::unique_ptr<Backend> open_device(const AllowedRoundings& allowed = {}, const Variables& variables = {}) {
  std::unique_ptr<Backend> backend;
  MOE_CHECK(simt::open(0, {.poison = true, .allowed = allowed, .variables = variables}, &backend).ok());
  return backend;
}

// A GPU of compute capability 9.0, which has kernels of its own.
std::unique_ptr<Backend> open_hopper(const AllowedRoundings& allowed = {}) {
  return open_device(allowed, {{{"MOE_GPU_CAPABILITY", "90"}}});
}

std::vector<std::unique_ptr<Backend>> open_both(const AllowedRoundings& allowed = {}) {
  std::vector<std::unique_ptr<Backend>> devices;
  devices.push_back(open_device(allowed));
  devices.push_back(open_hopper(allowed));
  return devices;
}

}  // namespace

MOE_TEST(products_with_weights_of_every_format_are_exact_to_float32) {
  const std::unique_ptr<Backend> backend = open_device();
  for (const WeightFormat* format : sample_formats()) {
    if (format->plain()) continue;
    test::check_products(*backend, *format, 1, 1, Activation::none, {1}, 1e-5);
    test::check_products(*backend, *format, 5, 16, Activation::swiglu, {3, 1}, 1e-5);
    test::check_products(*backend, *format, 37, 31, Activation::none, {2}, 1e-5);
    test::check_products(*backend, *format, 37, 100, Activation::swiglu, {9, 1}, 1e-5);
    test::check_products(*backend, *format, 3, 2880, Activation::none, {2, 1}, 1e-5);
  }
}

MOE_TEST(products_of_codes_with_weights_of_every_format_are_exact_to_float32) {
  const std::unique_ptr<Backend> backend = open_device();
  for (const WeightFormat* format : sample_formats()) {
    if (format->plain()) continue;
    for (const TokenFormat tokens : {TokenFormat::int8, TokenFormat::fp8, TokenFormat::fp8_ue8m0}) {
      test::check_products(*backend, *format, 1, 1, Activation::none, {1}, 1e-5, tokens);
      test::check_products(*backend, *format, 5, 16, Activation::swiglu, {3, 1}, 1e-5, tokens);
      test::check_products(*backend, *format, 37, 31, Activation::none, {2}, 1e-5, tokens);
      test::check_products(*backend, *format, 37, 300, Activation::swiglu, {9, 1}, 1e-5, tokens);
      test::check_products(*backend, *format, 3, 2880, Activation::none, {2, 1}, 1e-5, tokens);
    }
  }
}

MOE_TEST(products_on_hopper_are_exact_to_float32) {
  const std::unique_ptr<Backend> backend = open_hopper();
  for (const WeightFormat* format : sample_formats()) {
    if (format->plain()) continue;
    for (const TokenFormat tokens : {TokenFormat::none, TokenFormat::int8, TokenFormat::fp8}) {
      test::check_products(*backend, *format, 1, 1, Activation::none, {1}, 1e-5, tokens);
      test::check_products(*backend, *format, 37, 300, Activation::swiglu, {9, 1}, 1e-5, tokens);
      test::check_products(*backend, *format, 3, 2880, Activation::none, {2, 1}, 1e-5, tokens);
    }
  }
}

// Of copies and products some take effect at once, and not as late as the waits allow: a copy into a stage that is
// still read shows. Columns fill every ring of stages more than once.
MOE_TEST(copies_that_arrive_at_once_leave_what_is_still_read) {
  for (const char* capability : {"80", "90"}) {
    const std::unique_ptr<Backend> backend =
        open_device({.fp8_sums = true}, {{{"MOE_GPU_CAPABILITY", capability}, {"MOE_SIMT_ASYNC", "mixed"}}});
    for (const char* name : {"u4_g128_f16", "q4_k", "i8_channel_f32", "i3_g32_f16", "mxfp4", "e4m3_b128_f32"}) {
      for (const TokenFormat tokens : {TokenFormat::none, TokenFormat::int8, TokenFormat::fp8}) {
        test::check_products(*backend, *find_format(name), 18, 1300, Activation::swiglu, {65, 17, 1}, 1e-3, tokens);
      }
    }
  }
}

// Sums of at most 128 products in a tensor core, which keep 13 bits.
MOE_TEST(products_of_fp8_codes_in_the_sums_of_tensor_cores) {
  for (const std::unique_ptr<Backend>& backend : open_both({.fp8_sums = true})) {
    for (const char* name : {"e4m3_channel_f32", "e4m3_b128_f32", "e4m3_g128_bf16", "e4m3_g32_e8m0", "e4m3_g16_f32",
                             "e4m3_g48_f16", "e4m3_g64_f32", "e4m3_g256_f32"}) {
      const WeightFormat& format = *find_format(name);
      for (const TokenFormat tokens : {TokenFormat::fp8, TokenFormat::fp8_ue8m0}) {
        test::check_products(*backend, format, 1, 1, Activation::none, {1}, 1e-3, tokens);
        test::check_products(*backend, format, 5, 16, Activation::swiglu, {3, 1}, 1e-3, tokens);
        test::check_products(*backend, format, 37, 31, Activation::none, {2}, 1e-3, tokens);
        test::check_products(*backend, format, 37, 300, Activation::swiglu, {9, 1}, 1e-3, tokens);
        test::check_products(*backend, format, 3, 2880, Activation::none, {2, 1}, 1e-3, tokens);
      }
      test::check_products(*backend, format, 18, 300, Activation::swiglu, {65, 17, 8, 1}, 1e-3, TokenFormat::fp8);
    }
  }
}

// Sums of integers go on in float32 before 32 bits overflow.
MOE_TEST(products_of_more_codes_than_an_integer_can_sum) {
  for (const std::unique_ptr<Backend>& backend : open_both()) {
    for (const char* name : {"i8_channel_f32", "u8_channel_f32"}) {
      test::check_products(*backend, *find_format(name), 2, 70000, Activation::none, {1}, 1e-5, TokenFormat::int8);
    }
  }
}

MOE_TEST(rows_of_codes_have_the_same_bits_in_tiles_of_every_height) {
  for (const std::unique_ptr<Backend>& backend : open_both()) {
    for (const char* name : {"i8_channel_f32", "u8_g128_f32", "u4_g16_f32", "q4_k", "mxfp4", "i3_g80_f16"}) {
      test::check_products(*backend, *find_format(name), 18, 200, Activation::swiglu, {65, 17, 8, 1}, 1e-5,
                           TokenFormat::int8);
    }
    test::check_products(*backend, *find_format("e4m3_b128_f32"), 18, 300, Activation::swiglu, {65, 17, 8, 1}, 1e-5,
                         TokenFormat::fp8);
  }
}

MOE_TEST(rows_have_the_same_bits_in_tiles_of_every_height) {
  for (const std::unique_ptr<Backend>& backend : open_both()) {
    for (const char* name : {"mxfp4", "q4_k", "u4_g128_f16", "e4m3_b128_f32", "i3_g32_f16", "nf4_g64_f32"}) {
      test::check_products(*backend, *find_format(name), 18, 200, Activation::swiglu, {65, 17, 8, 1}, 1e-5);
    }
  }
}

namespace {

// Weights of zeros with scales of 1, in memory of the device.
struct Zeros {
  Zeros(Backend& backend, const WeightFormat& format, int64_t rows, int64_t columns)
      : groups(format.scales.columns == 0 ? 1 : columns / format.scales.columns),
        codes(static_cast<size_t>(rows * format.row_bytes(columns))),
        scales(static_cast<size_t>(rows * groups), format.scales.type == ScaleType::e8m0 ? 127 : 56),
        code_memory(backend, codes.size()),
        scale_memory(backend, scales.size()),
        view{.format = &format,
             .rows = rows,
             .columns = columns,
             .codes = dense_matrix(code_memory.data(), DType::u8, rows, format.row_bytes(columns)),
             .scales = dense_matrix(scale_memory.data(), DType::u8, rows, groups)} {}

  // What packing them says.
  Status pack(Backend& backend, int64_t outputs, int64_t columns) {
    code_memory.write(codes.data());
    scale_memory.write(scales.data());
    std::unique_ptr<PackedExperts> packed;
    const ExpertProduct product{.experts = 1, .rows = outputs, .columns = columns, .format = view.format};
    MOE_CHECK(backend.packed_experts(product, kManyProducts, &packed).ok());
    return packed->set_expert(0, view, {});
  }

  int64_t groups;
  std::vector<uint8_t> codes, scales;
  test::DeviceMemory code_memory, scale_memory;
  WeightView view;
};

}  // namespace

MOE_TEST(nan_is_refused_where_it_comes_first) {
  const std::unique_ptr<Backend> backend = open_device();
  Zeros weight(*backend, *find_format("e4m3_g32_e8m0"), 3, 64);
  MOE_CHECK(weight.pack(*backend, 3, 64).ok());
  weight.scales[5] = 255;
  Status status = weight.pack(*backend, 3, 64);
  MOE_CHECK(status.code == Code::invalid_argument);
  MOE_CHECK_EQUAL(status.message,
                  "weights stored in e4m3_g32_e8m0: expected numbers, got NaN as the scale of row 2, column 32");
  weight.codes[2 * 64 + 31] = 0xff;
  weight.codes[64 + 7] = 0x7f;
  status = weight.pack(*backend, 3, 64);
  MOE_CHECK_EQUAL(status.message,
                  "weights stored in e4m3_g32_e8m0: expected numbers, got NaN as the code of row 1, column 7");
}

MOE_TEST(weights_that_the_layout_cannot_express_are_refused) {
  const std::unique_ptr<Backend> backend = open_device();
  Zeros smaller(*backend, *find_format("iq4_g32_e8m0"), 2, 32);
  MOE_CHECK(smaller.pack(*backend, 2, 32).ok());
  MOE_CHECK(smaller.pack(*backend, 3, 32).code == Code::unsupported_dtype);
  smaller.view.scalar = 2;
  MOE_CHECK(smaller.pack(*backend, 2, 32).code == Code::unsupported_dtype);
}
