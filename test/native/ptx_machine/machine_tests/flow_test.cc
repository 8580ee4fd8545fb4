// Divergence of lanes, and barriers of warps.
#include "support.h"

namespace ptx_machine::test {
namespace {

// Each thread's %d, which begins as 0, with its index %i.
std::vector<uint32_t> of_threads(const std::string& body, unsigned threads = 32, unsigned shared = 0) {
  std::vector<uint32_t> results(threads, 0xdead);
  Launch launch = block_of(threads);
  launch.dynamic_shared_bytes = shared;
  run_module(
      ".extern .shared .align 16 .b8 data[];\n" +
          module_of(".reg .b32 %i, %d, %x, %y, %z; .reg .b64 %p; .reg .pred %q, %r; mov.u32 %i, %tid.x; mov.u32 "
                    "%d, 0;\n" +
                        body + "\nend: ld.param.u64 %p, [p0]; mad.wide.u32 %p, %i, 4, %p; st.global.u32 [%p], %d;",
                    1),
      {Memory(results)}, launch);
  return results;
}

void check_threads(const std::string& body, auto&& expected, unsigned threads = 32, unsigned shared = 0) {
  const std::vector<uint32_t> results = of_threads(body, threads, shared);
  for (uint32_t i = 0; i < threads; ++i) {
    MOE_CHECK_EQUAL(std::to_string(i) + ": " + std::to_string(results[i]),
                    std::to_string(i) + ": " + std::to_string(expected(i)));
  }
}

}  // namespace

MOE_TEST(lanes_take_different_branches_and_meet_again) {
  // Nested, and all lanes are together for the shuffle behind them.
  check_threads(R"(and.b32 %x, %i, 1; setp.eq.u32 %q, %x, 0; @%q bra even;
    setp.lt.u32 %r, %i, 8; @%r bra low;
    add.u32 %d, %i, 100; bra.uni odd;
    low: add.u32 %d, %i, 200;
    odd: add.u32 %d, %d, 1000; bra meet;
    even: add.u32 %d, %i, 300;
    meet: shfl.sync.bfly.b32 %d, %d, 1, 31, -1;)",
                [](uint32_t i) {
                  const uint32_t j = i ^ 1;
                  return j % 2 == 0 ? j + 300 : 1000 + j + (j < 8 ? 200 : 100);
                });
  // A branch that comes before in the text.
  check_threads(R"(bra start; back: add.u32 %d, %d, 50; bra meet;
    start: setp.lt.u32 %q, %i, 5; @%q bra back; add.u32 %d, %d, 60;
    meet: shfl.sync.idx.b32 %x, %d, 31, 31, -1; add.u32 %d, %d, %x;)",
                [](uint32_t i) { return i < 5 ? 110u : 120u; });
}

MOE_TEST(loops_of_other_lengths_in_each_lane) {
  // Lane i goes round i + 1 times, with a loop inside, then all add up by a shuffle.
  check_threads(R"(mov.u32 %x, 0;
    outer: mov.u32 %y, 0;
    inner: add.u32 %d, %d, 1; add.u32 %y, %y, 1; setp.le.u32 %q, %y, %x; @%q bra inner;
    add.u32 %x, %x, 1; setp.le.u32 %q, %x, %i; @%q bra outer;
    shfl.sync.down.b32 %z, %d, 1, 31, -1; sub.u32 %d, %z, %d;)",
                [](uint32_t i) { return i < 31 ? i + 2 : 0; });
}

MOE_TEST(lanes_that_return_early_are_not_waited_for) {
  check_threads(
      R"(setp.ge.u32 %q, %i, 20; @%q ret; mov.u32 %d, %i; bar.sync 0; shfl.sync.bfly.b32 %d, %d, 1, 31, 0xfffff;)",
      [](uint32_t i) { return i < 20 ? i ^ 1 : 0xdeadu; }, 32);
  // They leave when the others already wait for them.
  check_threads(R"(setp.ge.u32 %q, %i, 20; @%q bra out; bar.sync 0; mov.u32 %d, 7; bra end; out: exit;)",
                [](uint32_t i) { return i < 20 ? 7 : 0xdeadu; });
  // None is left.
  check_threads("ret;", [](uint32_t) { return 0xdeadu; });
}

MOE_TEST(kernels_end_without_a_ret) {
  std::vector<uint32_t> result(1);
  run_module(R"(.visible .entry k(.param .u64 p0) { .reg .b32 %i; .reg .b64 %p; .reg .pred %q; mov.u32 %i, %tid.x;
    setp.ne.u32 %q, %i, 3; @%q bra end; ld.param.u64 %p, [p0]; st.global.u32 [%p], %i; end: })",
             {Memory(result)}, block_of(32));
  MOE_CHECK_EQUAL(result[0], 3u);
}

MOE_TEST(lanes_wait_for_others_at_instructions_they_do_together) {
  // The lower half gets there first.
  check_threads(R"(setp.lt.u32 %q, %i, 16; @%q bra vote; mov.u32 %x, 0;
    again: add.u32 %x, %x, 1; setp.lt.u32 %r, %x, 10; @%r bra again; mov.u32 %d, %x;
    vote: bar.warp.sync -1; vote.sync.ballot.b32 %y, %q, -1; add.u32 %d, %d, %y;)",
                [](uint32_t i) { return (i < 16 ? 0 : 10) + 0xffffu; });
  check_contains(problem_of(R"(.reg .b32 %i; .reg .pred %q; mov.u32 %i, %tid.x; setp.lt.u32 %q, %i, 16; @%q bra low;
    bar.warp.sync -1; bra end; low: bar.warp.sync -1; end:)"),
                 "lanes wait for each other at different instructions");
}

MOE_TEST(barriers_order_what_warps_of_a_block_do) {
  // Each thread passes a number to the next warp, round after round.
  check_threads(R"(mov.u32 %x, 0; shl.b32 %y, %i, 2; add.u32 %y, %y, data; add.u32 %z, %i, 32; rem.u32 %z, %z, 128;
    shl.b32 %z, %z, 2; add.u32 %z, %z, data; mov.u32 %d, %i;
    round: st.shared.u32 [%y], %d; bar.sync 0; ld.shared.u32 %d, [%z]; barrier.cta.sync.aligned 0; add.u32 %x, %x, 1;
    setp.lt.u32 %q, %x, 5; @%q bra round;)",
                [](uint32_t i) { return (i + 5 * 32) % 128; }, 128, 512);
}

MOE_TEST(named_barriers_are_for_as_many_threads_as_they_say) {
  // Warps 1 and 2 write, and arrive at barrier 3; warp 0 waits there. Warp 3 never comes.
  check_threads(R"(shl.b32 %y, %i, 2; add.u32 %y, %y, data; setp.ge.u32 %q, %i, 96; @%q bra end;
    setp.ge.u32 %q, %i, 32; @%q bra write; bar.sync 3, 96; ld.shared.u32 %d, [%y+128]; ld.shared.u32 %x, [%y+256];
    add.u32 %d, %d, %x; bra end;
    write: st.shared.u32 [%y], %i; bar.arrive 3, 96;)",
                [](uint32_t i) { return i < 32 ? (i + 32) + (i + 64) : 0; }, 128, 512);
  // The number may be in a register, and two pairs of warps use two barriers.
  check_threads(
      R"(shl.b32 %y, %i, 2; add.u32 %y, %y, data; shr.u32 %x, %i, 6; add.u32 %x, %x, 1; st.shared.u32 [%y], %i;
    bar.sync %x, 64; xor.b32 %y, %i, 32; shl.b32 %y, %y, 2; add.u32 %y, %y, data; ld.shared.u32 %d, [%y];)",
      [](uint32_t i) { return i ^ 32; }, 128, 512);
}

MOE_TEST(barriers_of_the_block_do_not_wait_for_warps_that_have_left) {
  // Warp 1 leaves before the others come, and warp 3 after they wait, as it goes last.
  check_threads(R"(shr.u32 %x, %i, 5; and.b32 %y, %x, 1; setp.eq.u32 %q, %y, 1; @%q ret; bar.sync 0; mov.u32 %d, 9;)",
                [](uint32_t i) { return i / 32 % 2 == 0 ? 9 : 0xdeadu; }, 128);
}

MOE_TEST(warps_take_turns_while_one_waits_in_a_loop) {
  check_threads(R"(setp.ge.u32 %q, %i, 32; @%q bra other; 
    wait: ld.volatile.shared.u32 %d, [data]; setp.ne.u32 %r, %d, 77; @%r bra wait; bra end;
    other: st.shared.u32 [data], 77;)",
                [](uint32_t i) { return i < 32 ? 77 : 0; }, 64, 16);
}

MOE_TEST(kernels_that_do_not_end_are_stopped) {
  Launch launch = block_of(64);
  launch.most_steps = 1000;
  check_contains(problem_of("again: bra again;", {}, launch), "the kernel does not end, in block (0, 0, 0), warp 0");
}

MOE_TEST(barriers_that_are_used_wrong) {
  const std::string begin = ".reg .b32 %i; .reg .pred %q; mov.u32 %i, %tid.x; setp.ge.u32 %q, %i, 32; ";
  check_contains(problem_of(begin + "@%q bra skip; bar.sync 1, 64; skip:", {}, block_of(64)),
                 "warps wait at a barrier that others do not come to, in block (0, 0, 0), warp 0");
  check_contains(problem_of(begin + "@%q bra skip; bar.sync 0; skip: bar.sync 1;", {}, block_of(64)),
                 "warps wait at a barrier that others do not come to");
  check_contains(problem_of("bar.sync 16;"), "there is no barrier 16");
  check_contains(problem_of("bar.sync 1, 48;", {}, block_of(64)), "a barrier of 48 threads is not one of whole warps");
  check_contains(problem_of(begin + "@%q bra other; bar.sync 1, 64; other: bar.sync 1, 96;", {}, block_of(64)),
                 "warps expect different numbers of threads at a barrier");
  check_contains(problem_of("bar.arrive 1;"), "an operand is missing");
  check_contains(problem_of("bar.red.popc.u32 1;"), "unknown instruction");
}

MOE_TEST(fences_are_known) {
  MOE_CHECK_EQUAL(problem_of("fence.acq_rel.gpu; fence.sc.sys; membar.gl; membar.cta; fence.proxy.async;"), "");
  check_contains(problem_of("fence.mbarrier_init.release.cluster;"), "unknown instruction");
}

}  // namespace ptx_machine::test
