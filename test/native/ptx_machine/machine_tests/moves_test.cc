// Moves, special registers and constants.
#include "support.h"

namespace ptx_machine::test {

MOE_TEST(moves_join_and_split_registers) {
  Bits bits(1);
  const auto a = bits.many<uint64_t>(40), b = bits.many<uint64_t>(40);
  const std::vector<uint32_t> low = bits.many<uint32_t>(40), high = bits.many<uint32_t>(40);
  const std::vector<uint16_t> first = bits.many<uint16_t>(40), second = bits.many<uint16_t>(40);
  check_lanes<uint64_t>(
      "mov.b64 %d, {%a, %b};", [](uint32_t x, uint32_t y) { return x + (uint64_t{y} << 32); }, low, high);
  check_lanes<uint32_t>(
      "mov.b32 %d, {%a, %b};", [](uint16_t x, uint16_t y) { return x + (uint32_t{y} << 16); }, first, second);
  check_lanes<uint64_t>(
      "mov.b64 %d, {%a, %b, %b, %a};",
      [](uint16_t x, uint16_t y) { return x + (uint64_t{y} << 16) + (uint64_t{y} << 32) + (uint64_t{x} << 48); }, first,
      second);
  check_lanes<uint32_t>(
      ".reg .b32 %x, %y; mov.b64 {%x, %y}, %a; sub.u32 %d, %x, %y;",
      [](uint64_t x) { return static_cast<uint32_t>(x) - static_cast<uint32_t>(x >> 32); }, a);
  check_lanes<uint32_t>(
      "mov.b64 {_, %d}, %a;", [](uint64_t x) { return static_cast<uint32_t>(x >> 32); }, a);
  check_lanes<uint16_t>(
      "mov.b32 {%d, _}, %a;", [](uint32_t x) { return static_cast<uint16_t>(x); }, low);
  check_lanes<uint16_t>(
      "mov.b64 {_, _, %d, _}, %a;", [](uint64_t x) { return static_cast<uint16_t>(x >> 32); }, a);
  check_lanes<uint16_t>(
      "mov.u16 %d, %a;", [](uint16_t x) { return x; }, first);
  check_lanes<uint32_t>(
      "mov.b32 %d, %a;", [](uint32_t x) { return x; }, low);
  check_lanes<uint64_t>(
      "mov.u64 %d, %a;", [](uint64_t x) { return x; }, a);
  check_contains(problem_of(".reg .b32 %x; .reg .b16 %y; mov.b32 %x, {%y, _};"), "_ stands where an operand is needed");
}

MOE_TEST(constants_of_all_kinds) {
  const std::vector<uint32_t> one{0};
  check_lanes<uint32_t>(
      "mov.u32 %d, 4000000000;", [](uint32_t) { return 4000000000u; }, one);
  check_lanes<int32_t>(
      "mov.s32 %d, -7;", [](uint32_t) { return -7; }, one);
  check_lanes<uint32_t>(
      "mov.u32 %d, 0xBEEF;", [](uint32_t) { return 0xbeefu; }, one);
  check_lanes<uint32_t>(
      "mov.u32 %d, 12U;", [](uint32_t) { return 12u; }, one);
  check_lanes<uint16_t>(
      "mov.b16 %d, 0x3C00;", [](uint32_t) { return uint16_t{0x3c00}; }, one);
  check_lanes<float>(
      "mov.f32 %d, 0fBF800000;", [](uint32_t) { return -1.0f; }, one);
  check_lanes<double>(
      "mov.f64 %d, 0d3FF8000000000000;", [](uint32_t) { return 1.5; }, one);
  check_lanes<int64_t>(
      "mov.s64 %d, -9000000000;", [](uint32_t) { return int64_t{-9000000000}; }, one);
  check_contains(problem_of(".reg .b64 %x; mov.f64 %x, 0f3F800000;"), "a number of 32 bits: 0f3F800000");
  check_contains(problem_of(".reg .b32 %x; mov.f32 %x, 0d3FF8000000000000;"), "a number of 64 bits");
  check_contains(problem_of(".reg .b32 %x; mov.u32 %x, 12q;"), "expected a number, got 12q");
}

MOE_TEST(special_registers_say_which_thread_it_is) {
  // Blocks of 5 x 3 x 4 threads, in a grid of 2 x 3 x 2.
  const char* names[] = {"%tid.x",    "%tid.y",    "%tid.z",   "%ntid.x",  "%ntid.y",
                         "%ntid.z",   "%ctaid.x",  "%ctaid.y", "%ctaid.z", "%nctaid.x",
                         "%nctaid.y", "%nctaid.z", "%laneid",  "%warpid",  "%lanemask_lt"};
  constexpr unsigned kNames = std::size(names), kThreads = 60, kBlocks = 12;
  std::vector<uint32_t> results(kNames * kThreads * kBlocks);
  std::string body = R"(.reg .b32 %i, %j, %v; .reg .b64 %p;
    mad.lo.u32 %i, %ctaid.z, 3, %ctaid.y; mad.lo.u32 %i, %i, 2, %ctaid.x;
    mad.lo.u32 %i, %i, 4, %tid.z; mad.lo.u32 %i, %i, 3, %tid.y; mad.lo.u32 %i, %i, 5, %tid.x;
    ld.param.u64 %p, [p0]; mad.wide.u32 %p, %i, 60, %p;)";
  for (unsigned i = 0; i < kNames; ++i) {
    body += std::string("mov.u32 %v, ") + names[i] + "; st.global.u32 [%p+" + std::to_string(4 * i) + "], %v;\n";
  }
  run_body(body, {Memory(results)}, {.grid = {2, 3, 2}, .block = {5, 3, 4}, .parameters = {}});
  for (unsigned block = 0; block < kBlocks; ++block) {
    for (unsigned thread = 0; thread < kThreads; ++thread) {
      const uint32_t expected[kNames] = {thread % 5,
                                         thread / 5 % 3,
                                         thread / 15,
                                         5,
                                         3,
                                         4,
                                         block % 2,
                                         block / 2 % 3,
                                         block / 6,
                                         2,
                                         3,
                                         2,
                                         thread % 32,
                                         thread / 32,
                                         (uint32_t{1} << thread % 32) - 1};
      for (unsigned i = 0; i < kNames; ++i) {
        MOE_CHECK_EQUAL(std::string(names[i]) + " " + std::to_string(results[(block * kThreads + thread) * kNames + i]),
                        std::string(names[i]) + " " + std::to_string(expected[i]));
      }
    }
  }
  check_contains(problem_of(".reg .b32 %x; mov.u32 %x, %tid.w;"), "unknown register %tid.w");
  check_contains(problem_of(".reg .b32 %x; mov.u32 %x, %clock;"), "unknown register %clock");
}

}  // namespace ptx_machine::test
