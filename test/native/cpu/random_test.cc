#include "core/random.h"

#include "check.h"

namespace {

using moe::philox;
using moe::RandomWords;

bool equal(const RandomWords& words, const RandomWords& expected) {
  return memcmp(&words, &expected, sizeof words) == 0;
}

}  // namespace

// The known answers that the authors publish with their library, Random123.
MOE_TEST(philox_gives_the_known_answers) {
  constexpr uint32_t kOnes = 0xffffffffu;
  MOE_CHECK(equal(philox({{0, 0, 0, 0}}, 0, 0), {{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}}));
  MOE_CHECK(equal(philox({{kOnes, kOnes, kOnes, kOnes}}, kOnes, kOnes),
                  {{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}}));
  MOE_CHECK(equal(philox({{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}}, 0xa4093822u, 0x299f31d0u),
                  {{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}}));
}

MOE_TEST(uniform_numbers_are_never_0_or_1) {
  MOE_CHECK_EQUAL(moe::uniform_from_bits(0), 0x1p-24f);
  MOE_CHECK_EQUAL(moe::uniform_from_bits(0xffffffffu), 1.0f - 0x1p-24f);
}
