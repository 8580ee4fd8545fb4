#include "cpu/formats/nearest_codes.h"

#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "core/formats/find_format.h"
#include "random.h"

namespace {

using namespace moe;

// Values of all sizes, those of codes, halfway between them, and the floats beside those.
std::vector<float> values_near(const WeightFormat& format, test::Random& random) {
  std::vector<float> values = random.values(500);
  for (float& value : values) value *= 300.0f;
  const Interval range = code_range(format);
  std::vector<float> codes;
  for (uint32_t code = 0; code < 1u << format.bits; ++code) {
    const float value = code_value(format, code);
    if (std::isfinite(value)) codes.push_back(value);
  }
  const size_t kept = std::min<size_t>(codes.size(), 40);
  for (size_t i = 0; i < kept; ++i) {
    for (size_t j = 0; j < kept; ++j) {
      float value = (codes[i] + codes[j]) / 2;
      for (int step = 0; step < 3; ++step) value = std::nextafter(value, -INFINITY);
      for (int step = 0; step < 6; ++step) values.push_back(value = std::nextafter(value, INFINITY));
    }
  }
  for (const float far : {2.0f, 1e10f, 3e38f, std::numeric_limits<float>::infinity()}) {
    values.push_back(range.highest * far);
    values.push_back(-std::abs(range.highest) * far);
  }
  values.push_back(-0.0f);
  return values;
}

}  // namespace

MOE_TEST(nearest_codes_of_many_values_are_those_of_the_definition) {
  test::Random random{11};
  int formats = 0;
  for (const WeightFormat* format : sample_formats()) {
    if (!can_quantize(*format)) continue;
    ++formats;
    const cpu::NearestCodes nearest(*format);
    const std::vector<float> values = values_near(*format, random);
    const auto count = std::ssize(values);
    std::vector<uint8_t> codes(values.size());
    std::vector<float> rounded(values.size());
    nearest.find(values.data(), count, codes.data());
    nearest.round(values.data(), count, rounded.data());
    for (size_t i = 0; i < values.size(); ++i) {
      const uint32_t code = nearest_code(*format, nearest.range(), values[i]);
      MOE_CHECK_EQUAL(static_cast<uint32_t>(codes[i]), code);
      MOE_CHECK_EQUAL(float_bits(rounded[i]), float_bits(code_value(*format, code)));
    }
  }
  MOE_CHECK(formats > 20);
}

MOE_TEST(values_far_beyond_a_table_are_nearest_to_its_end) {
  const WeightFormat& format = *find_format("iq4_g32_f16");
  const Interval range = code_range(format);
  MOE_CHECK_EQUAL(code_value(format, nearest_code(format, range, 1e20f)), range.highest);
  MOE_CHECK_EQUAL(code_value(format, nearest_code(format, range, -1e20f)), range.lowest);
}
