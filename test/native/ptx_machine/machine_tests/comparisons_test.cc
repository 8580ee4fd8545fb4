// setp and selp.
#include "support.h"

namespace ptx_machine::test {
namespace {

// The 4 outcomes of a comparison that a name accepts.
struct Comparison {
  const char* name;
  bool less, equal, greater, unordered;
};

constexpr Comparison kOrdered[] = {{"eq", false, true, false, false}, {"ne", true, false, true, false},
                                   {"lt", true, false, false, false}, {"le", true, true, false, false},
                                   {"gt", false, false, true, false}, {"ge", false, true, true, false}};
constexpr Comparison kUnordered[] = {{"equ", false, true, false, true}, {"neu", true, false, true, true},
                                     {"ltu", true, false, false, true}, {"leu", true, true, false, true},
                                     {"gtu", false, false, true, true}, {"geu", false, true, true, true},
                                     {"num", true, true, true, false},  {"nan", false, false, false, true}};
constexpr Comparison kUnsigned[] = {{"lo", true, false, false, false},
                                    {"ls", true, true, false, false},
                                    {"hi", false, false, true, false},
                                    {"hs", false, true, true, false}};

template <class T, size_t kCount>
void check_setp(const Comparison (&all)[kCount], const std::string& type, const std::vector<T>& values) {
  const auto [a, b] = pairs(values, values);
  for (const Comparison& c : all) {
    check_lanes<uint32_t>(
        ".reg .pred %p; setp." + std::string(c.name) + type + " %p, %a, %b; selp.u32 %d, 1, 0, %p;",
        [&](T x, T y) -> uint32_t {
          return x < y ? c.less : x > y ? c.greater : x == y ? c.equal : c.unordered;
        },
        a, b);
  }
}

template <class T>
void check_integers() {
  const std::string type = (std::is_signed_v<T> ? ".s" : ".u") + std::to_string(8 * sizeof(T));
  check_setp(kOrdered, type, integer_edges<T>());
  if (std::is_unsigned_v<T>) check_setp(kUnsigned, type, integer_edges<T>());
}

}  // namespace

MOE_TEST(comparisons_of_integers) {
  check_integers<uint16_t>();
  check_integers<int16_t>();
  check_integers<uint32_t>();
  check_integers<int32_t>();
  check_integers<uint64_t>();
  check_integers<int64_t>();
  check_setp({kOrdered[0], kOrdered[1]}, ".b32", integer_edges<uint32_t>());
}

MOE_TEST(comparisons_of_floats_say_what_is_true_of_nan) {
  check_setp(kOrdered, ".f32", float_edges());
  check_setp(kUnordered, ".f32", float_edges());
  check_setp(kOrdered, ".f64", double_edges());
  check_setp(kUnordered, ".f64", double_edges());
}

MOE_TEST(comparisons_of_other_types_are_unknown) {
  for (const char* text : {"setp.equ.s32 %p, 1, 2;", "setp.nan.u32 %p, 1, 2;", "setp.lo.s32 %p, 1, 2;",
                           "setp.hs.f32 %p, 0f00000000, 0f00000000;"}) {
    check_contains(problem_of(std::string(".reg .pred %p; ") + text), "unknown instruction: setp.");
  }
}

MOE_TEST(a_comparison_is_combined_with_a_predicate_and_has_an_opposite) {
  const auto [a, b] = pairs(std::vector<uint32_t>{0, 1}, std::vector<uint32_t>{0, 1});
  for (const char* name : {"and", "or", "xor"}) {
    for (const bool negated : {false, true}) {
      const std::string combine = name;
      check_lanes<uint32_t>(
          ".reg .pred %p, %q, %r; .reg .b32 %x; setp.ne.u32 %r, %b, 0; setp.eq." + combine + ".u32 %p|%q, %a, 1, " +
              (negated ? "!%r" : "%r") + "; selp.b32 %d, 1, 0, %p; selp.b32 %x, 2, 0, %q; or.b32 %d, %d, %x;",
          [&](uint32_t x, uint32_t y) {
            const uint32_t other = negated ? 1 - y : y;
            const auto with = [&](uint32_t value) {
              return combine == "and" ? value & other : combine == "or" ? value | other : value ^ other;
            };
            return with(x) | with(1 - x) << 1;
          },
          a, b);
    }
  }
  // Without another one, the opposite alone.
  check_lanes<uint32_t>(
      ".reg .pred %p, %q; setp.lt.u32 %p|%q, %a, %b; selp.b32 %d, 1, 0, %q;",
      [](uint32_t x, uint32_t y) -> uint32_t { return !(x < y); }, a, b);
}

MOE_TEST(lanes_that_do_not_compare_keep_their_predicates) {
  check_lanes<uint32_t>(
      ".reg .pred %p, %q; setp.eq.u32 %p, 0, 0; setp.gt.u32 %q, %a, 5; @%q setp.eq.u32 %p, %a, 7; "
      "selp.b32 %d, 1, 0, %p;",
      [](uint32_t x) -> uint32_t { return x <= 5 || x == 7; }, std::vector<uint32_t>{0, 1, 4, 5, 6, 7, 8, 9, 7, 5});
}

MOE_TEST(selp_chooses_of_all_widths) {
  const std::vector<uint32_t> c = {0, 1, 1, 0, 1, 0, 0};
  const auto check = [&]<class T>(T) {
    Bits bits(4);
    check_lanes<T>(
        ".reg .pred %p; setp.ne.u32 %p, %c, 0; selp.b" + std::to_string(8 * sizeof(T)) + " %d, %a, %b, %p;",
        [](T x, T y, uint32_t z) { return z != 0 ? x : y; }, bits.many<T>(7), bits.many<T>(7), c);
  };
  check(uint16_t{});
  check(uint32_t{});
  check(uint64_t{});
}

}  // namespace ptx_machine::test
