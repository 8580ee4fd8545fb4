// What stops a kernel, and what the machine does not read.
#include "support.h"

namespace ptx_machine::test {
namespace {

std::string access_problem(const std::string& body, size_t words = 16) {
  std::vector<uint32_t> memory(words + 4);
  // At a multiple of 16.
  auto* data = reinterpret_cast<uint32_t*>((reinterpret_cast<uintptr_t>(memory.data()) + 15) / 16 * 16);
  std::vector<uint32_t> values(1);
  Memory given(values);
  given.data = data;
  given.bytes = 4 * words;
  return problem_of(
      ".local .align 8 .b8 mine[16]; .shared .align 16 .b8 ours[32]; .reg .b16 %h; .reg .b32 %r, %s, %v<4>; "
      ".reg .b64 %p, %l; .reg .pred %q; ld.param.u64 %p, [p0]; mov.u32 %s, ours; " +
          body,
      {given});
}

}  // namespace

MOE_TEST(accesses_outside_global_memory) {
  MOE_CHECK_EQUAL(access_problem("ld.global.u32 %r, [%p+60]; st.global.u32 [%p], %r;"), "");
  check_contains(
      access_problem("ld.global.u32 %r, [%p+64];"),
      "an access of 4 bytes at 64 of the nearest memory below, which has 64, in block (0, 0, 0), warp 0, lanes "
      "ffffffff, at: ld.global.u32 %r, [%p+64], of k");
  check_contains(access_problem("st.global.v2.u32 [%p+64], {1, 2};"), "an access of 8 bytes at 64 of");
  check_contains(access_problem("ld.global.u32 %r, [%p+-4];"), "below all memory");
  check_contains(access_problem("mov.u64 %p, 0; ld.global.u32 %r, [%p];"), "an access of 4 bytes at address 0, below");
  // Addresses that a sum takes past the end.
  check_contains(access_problem("mov.u64 %p, 0; ld.global.u32 %r, [%p+-4];"), "of the nearest memory below");
  check_contains(access_problem("mov.u64 %p, -1; ld.global.u8 %r, [%p];"), "of the nearest memory below");
  check_contains(access_problem("mov.u64 %p, 8; atom.global.add.u32 %r, [%p], 1;"), "below all memory");
}

MOE_TEST(accesses_outside_shared_and_local_memory_and_parameters) {
  MOE_CHECK_EQUAL(access_problem("st.shared.u32 [%s+28], 0; ld.shared.u32 %r, [ours+28];"), "");
  check_contains(access_problem("ld.shared.u32 %r, [%s+32];"),
                 "an access of 4 bytes at 1056 of shared memory, which is from 1024 to 1056");
  check_contains(access_problem("ld.shared.u32 %r, [%s+-4];"), "an access of 4 bytes at 1020 of shared memory, which");
  check_contains(access_problem("mov.u32 %s, 0; ld.shared.u32 %r, [%s+-4];"),
                 "an access of 4 bytes at -4 of shared memory");
  check_contains(access_problem("mov.u64 %l, ours; cvta.shared.u64 %l, %l; ld.u32 %r, [%l+32];"),
                 "an access of 4 bytes at 1056 of shared memory");
  MOE_CHECK_EQUAL(access_problem("st.local.u32 [mine+12], 0;"), "");
  check_contains(access_problem("st.local.u32 [mine+16], 0;"),
                 "an access of 4 bytes at 16 of local memory, which is from 0 to 16");
  check_contains(access_problem("mov.u64 %l, 0; ld.local.u32 %r, [%l+-4];"),
                 "an access of 4 bytes at -4 of local memory");
  check_contains(access_problem("ld.param.u32 %r, [p0+8];"),
                 "an access of 4 bytes at 8 of the parameters, which is from 0 to 8");
  check_contains(access_problem("st.param.u32 [p0], 1;"), "unknown instruction: st.param");
}

MOE_TEST(accesses_that_are_not_aligned) {
  check_contains(access_problem("ld.global.u32 %r, [%p+2];"), "modulo 256 is not aligned");
  // Also in the memory that was used last, and of vectors.
  check_contains(access_problem("ld.global.u32 %r, [%p]; ld.global.v2.u32 {%v0, %v1}, [%p+4];"),
                 "an access of 8 bytes at");
  check_contains(access_problem("ld.global.v4.u32 {%v0, %v1, %v2, %v3}, [%p+8];"), "an access of 16 bytes at");
  check_contains(access_problem("ld.shared.u32 %r, [%s+2];"),
                 "an access of 4 bytes at 1026 of shared memory is not aligned");
  check_contains(access_problem("st.shared.v4.u32 [%s+8], {1, 2, 3, 4};"),
                 "an access of 16 bytes at 1032 of shared memory is not");
  check_contains(access_problem("st.local.u16 [mine+1], %h;"),
                 "an access of 2 bytes at 1 of local memory is not aligned");
  check_contains(access_problem("ld.param.u32 %r, [p0+2];"),
                 "an access of 4 bytes at 2 of the parameters is not aligned");
}

MOE_TEST(traps_say_where) {
  std::vector<uint32_t> none(1);
  check_contains(
      problem_of(R"(.reg .b32 %i, %b; .reg .pred %q; mov.u32 %i, %tid.x; mov.u32 %b, %ctaid.y; setp.eq.u32 %q, %b, 1;
    @!%q ret; setp.eq.u32 %q, %i, 37; @%q trap;)",
                 {}, {.grid = {1, 2, 1}, .block = {64, 1, 1}, .parameters = {}}),
      "a trap, in block (0, 1, 0), warp 1, lanes 00000020, at: @%q trap, of k");
}

MOE_TEST(what_the_machine_does_not_know_is_named_with_its_line) {
  const std::string begin = ".reg .b16 %h; .reg .b32 %r, %s; .reg .b64 %p; .reg .pred %q; ";
  const auto check = [&](const std::string& statement, const std::string& problem) {
    MOE_CHECK_EQUAL(problem_of(begin + statement + ";"), problem + ": " + statement + ", of k");
  };
  check("frobnicate.u32 %r, %s", "unknown instruction");
  check("add.sat.s32 %r, %r, %s", "unknown instruction");
  check("add.rm.ftz.f32 %r, %r, %s", "unknown instruction");
  check("add.ftz.f64 %p, %p, %p", "unknown instruction");
  check("add.f16 %h, %h, %h", "unknown instruction");
  check("mad.lo.f32 %r, %r, %r, %r", "unknown instruction");
  check("mad.f32 %r, %r, %r, %r", "unknown instruction");
  check("mul.wide.u64 %p, %p, %p", "unknown instruction");
  check("mul.u32 %r, %r, %r", "unknown instruction");
  check("fma.rn.ftz.f16x2 %r, %r, %r, %r", "unknown instruction");
  check("fma.rn.s32 %r, %r, %r, %r", "unknown instruction");
  check("lg2.approx.f64 %p, %p", "unknown instruction");
  check("mov.b128 %p, %p", "unknown instruction");
  check("mov.b8 %r, %r", "unknown instruction");
  check("bra.maybe end", "unknown instruction");
  check("ld.global.v2.f16x2 %r, [%p]", "expected as many registers as v2 or v4 says");
  check("ld.global.v8.b32 {%r, %s}, [%p]", "expected as many registers as v2 or v4 says");
  check("ld.global.u64 %r, [%p]", "a register is too small");
  check("ld.global.u32 %r, %p", "expected an address");
  check("ld.global.u32 %r, [%h]", "expected an address of 32 or 64 bits");
  check("shfl.bfly.b32 %r, %r, 1, 31", "unknown instruction");
  check("vote.sync.ballot.pred %q, %q, -1", "unknown instruction");
  check("redux.sync.xor.b32 %r, %r, -1", "unknown instruction");
  check("add.u32 %r, %p, %s", "expected 32 bits, got a register of 64");
  check("add.u32 %r, %h, %s", "expected 32 bits, got a register of 16");
  check("setp.eq.u32 %r, %r, %s", "expected 1 bits, got a register of 32");
  check("add.u32 %r, %x, %s", "unknown register %x");
  check("add.u32 %r, what, %s", "unknown operand what");
  check("add.u32 %r, %r", "an operand is missing");
  check("add.u32 %r, %r, %r, %r", "too many operands");
  check("add.u32 %r, !%r, %r", "only a predicate can be negated");
  check("add.u32 {%r, %s}, %r, %r", "expected a single operand");
  check("@%r add.u32 %r, %r, %r", "the guard is not a predicate");
  MOE_CHECK_EQUAL(problem_of("bra nowhere;"), "unknown label nowhere");
}

MOE_TEST(modules_that_are_not_as_expected) {
  const auto problem = [](const std::string& module) -> std::string {
    try {
      read_kernel(module, "k");
      return "";
    } catch (const std::runtime_error& error) {
      return error.what();
    }
  };
  MOE_CHECK_EQUAL(problem(".visible .entry other() { ret; }"), "the module has no kernel k");
  MOE_CHECK_EQUAL(problem(".entry k"), "the module has no kernel k");
  MOE_CHECK_EQUAL(problem(".visible .entry k2() { ret; } .visible .entry k() { ret; }"), "");
  MOE_CHECK_EQUAL(problem(".visible .entry k() { ret;"), "a bracket is not closed");
  MOE_CHECK_EQUAL(problem("\n.global .align 4 .u32 x;\n.visible .entry k() { .reg .b64 %p; mov.u64 %p, x; }"),
                  "a variable in global memory has no values: .global .align 4 .u32 x");
  MOE_CHECK_EQUAL(problem("\n.global .u32 x[2] = {1, 2};\n.visible .entry k() { .reg .b64 %p; mov.u64 %p, x; }"),
                  "expected a table of bytes, got .global .u32 x[2] = {1, 2}");
}

MOE_TEST(names_of_an_inner_scope_hide_those_outside) {
  std::vector<uint32_t> result(2);
  run_body(
      R"(.reg .b32 %r; .reg .b64 %p; mov.u32 %r, 1; { .reg .b32 %r; mov.u32 %r, 2; { .reg .b32 q; mov.u32 q, %r; } }
    ld.param.u64 %p, [p0]; st.global.u32 [%p], %r;)",
      {Memory(result)}, block_of(1));
  MOE_CHECK_EQUAL(result[0], 1u);
  check_contains(problem_of("{ .reg .b32 %inner; mov.u32 %inner, 2; } mov.u32 %inner, 3;"), "unknown register %inner");
}

}  // namespace ptx_machine::test
