// Products of a warp.
#include "product_types.h"

namespace ptx_machine::test {
namespace {

std::string names(char letter, size_t count) {
  std::string text = "{";
  for (size_t i = 0; i < count; ++i) text += (i > 0 ? ", %" : "%") + std::string(1, letter) + std::to_string(i);
  return text + "}";
}

std::string mma_name(const ProductType& type) {
  return "mma.sync.aligned.m16n8k" + std::to_string(type.depth) + ".row.col." + type.sum + "." + type.name + "." +
         type.name + "." + type.sum;
}

void check_mma(const ProductType& type) {
  const unsigned each = type.per_register();
  const size_t a_count = 16 * type.depth / 32 / each, b_count = 8 * type.depth / 32 / each;
  const Matrix a(16, type.depth, 1, 8), b(type.depth, 8, 2, 8), c(16, 8, 3, 100);
  // 12 registers of each lane: A, B and C.
  std::vector<uint32_t> registers(32 * 12), results(32 * 4);
  for (unsigned lane = 0; lane < 32; ++lane) {
    uint32_t* own = registers.data() + 12 * lane;
    const std::vector<uint32_t> of_a = a_registers(type, a, 0, lane);
    std::copy(of_a.begin(), of_a.end(), own);
    for (unsigned i = 0; i < b_count * each; ++i) {
      const auto [k, column] = b_element(type, lane, i);
      own[4 + i / each] |= type.code(b.at(k, column)) << type.bits * (i % each);
    }
    for (unsigned i = 0; i < 4; ++i) {
      const auto [row, column] = sum_element(lane, i);
      own[8 + i] = type.sum_code(c.at(row, column));
    }
  }
  std::string body = R"(.reg .b32 %i, %a<4>, %b<2>, %c<4>, %d<4>, %unused<2>; .reg .b64 %p, %q; mov.u32 %i, %tid.x;
    ld.param.u64 %p, [p0]; mad.wide.u32 %p, %i, 48, %p; ld.param.u64 %q, [p1]; mad.wide.u32 %q, %i, 16, %q;
    ld.global.v4.b32 {%a0, %a1, %a2, %a3}, [%p]; ld.global.v2.b32 {%b0, %b1}, [%p+16];
    ld.global.v4.b32 {%c0, %c1, %c2, %c3}, [%p+32];
    )" + mma_name(type) +
                     " " + names('d', 4) + ", " + names('a', a_count) + ", " + names('b', b_count) + ", " +
                     names('c', 4) + "; st.global.v4.b32 [%q], {%d0, %d1, %d2, %d3};";
  run_body(body, {Memory(registers), Memory(results)}, block_of(32));
  for (unsigned lane = 0; lane < 32; ++lane) {
    for (unsigned i = 0; i < 4; ++i) {
      const auto [row, column] = sum_element(lane, i);
      MOE_CHECK_EQUAL(results[4 * lane + i], type.sum_code(product_at(a, b, row, column) + c.at(row, column)));
    }
  }
}

}  // namespace

MOE_TEST(mma_of_all_types) {
  check_mma(kBf16);
  check_mma(kF16);
  check_mma(kTf32);
  check_mma(kE4M3);
  check_mma(kS8);
  check_mma(kS8Half);
}

MOE_TEST(mma_that_is_not_known) {
  const std::string begin = ".reg .b32 %r; ", four = "{%r, %r, %r, %r}", two = "{%r, %r}";
  const auto problem = [&](const std::string& name) {
    return problem_of(begin + "mma.sync.aligned." + name + " " + four + ", " + four + ", " + two + ", " + four + ";");
  };
  check_contains(problem("m16n8k16.row.col.f16.f16.f16.f16"), "unknown instruction");
  check_contains(problem("m16n8k16.row.col.f32.bf16.f16.f32"), "unknown instruction");
  check_contains(problem("m16n8k32.row.col.f32.e5m2.e5m2.f32"), "unknown instruction");
  check_contains(problem("m16n8k8.row.col.f32.bf16.bf16.f32"), "unknown instruction");
  check_contains(problem("m16n8k16.row.row.f32.bf16.bf16.f32"), "unknown instruction");
  check_contains(problem("m16n8k16.row.col.s32.s8.s8.s32"), "mma has a different number of registers");
  check_contains(problem_of(".reg .b32 %r, %i; .reg .pred %q; mov.u32 %i, %tid.x; setp.eq.u32 %q, %i, 3; @%q bra end; "
                            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 " +
                            four + ", " + four + ", " + two + ", " + four + "; bra end; end: bar.sync 0;"),
                 "lanes wait for each other at different instructions");
}

}  // namespace ptx_machine::test
