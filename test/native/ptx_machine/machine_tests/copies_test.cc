// cp.async, as late and as early as a GPU may do it.
#include "support.h"

namespace ptx_machine::test {
namespace {

// One warp, whose lanes copy 16 bytes each from p0 to shared memory. Results go to p1.
const std::string kBegin =
    R"(.shared .align 16 .b8 data[1024]; .reg .b32 %i, %s, %v, %n; .reg .b64 %p, %q; .reg .pred %x;
  mov.u32 %i, %tid.x; shl.b32 %s, %i, 4; add.u32 %s, %s, data; ld.param.u64 %p, [p0]; mad.wide.u32 %p, %i, 16, %p;
  ld.param.u64 %q, [p1]; mad.wide.u32 %q, %i, 16, %q; st.shared.v4.u32 [%s], {5, 5, 5, 5};)";
const std::string kEnd = R"(.reg .b32 %e<4>; ld.shared.v4.u32 {%e0, %e1, %e2, %e3}, [%s];
  st.global.v4.u32 [%q], {%e0, %e1, %e2, %e3};)";

std::vector<uint32_t> sources() {
  std::vector<uint32_t> values(128);
  for (uint32_t i = 0; i < 128; ++i) values[i] = 1000 + i;
  return values;
}

std::vector<uint32_t> copied(const std::string& body, Background when = Background::late) {
  std::vector<uint32_t> from = sources(), to(128);
  Launch launch = block_of(32);
  launch.background = when;
  run_body(kBegin + body + kEnd, {Memory(from), Memory(to)}, launch);
  return to;
}

std::string copy_problem(const std::string& body) {
  std::vector<uint32_t> from = sources(), to(128);
  return problem_of(kBegin + body + kEnd, {Memory(from), Memory(to)});
}

const std::vector<uint32_t> kOld(128, 5);

}  // namespace

MOE_TEST(copies_come_with_the_wait) {
  const std::string copy = "cp.async.cg.shared.global [%s], [%p], 16; ", commit = "cp.async.commit_group; ";
  MOE_CHECK(copied(copy + commit + "cp.async.wait_group 0;") == sources());
  // Not before, nor if they are of a newer group, nor without a commit.
  MOE_CHECK(copied(copy + commit) == kOld);
  MOE_CHECK(copied(copy + commit + "cp.async.wait_group 1;") == kOld);
  MOE_CHECK(copied(copy + commit + commit + "cp.async.wait_group 1;") == sources());
  MOE_CHECK(copied(copy + "cp.async.wait_group 0;") == kOld);
  // What is read is what is there at the wait.
  const std::string overwrite = "st.global.v4.u32 [%p], {7, 7, 7, 7}; ", wait = "cp.async.wait_group 0; ";
  MOE_CHECK(copied(copy + commit + overwrite + wait) == std::vector<uint32_t>(128, 7));
}

MOE_TEST(early_copies_come_at_once) {
  const std::string copy = "cp.async.ca.shared.global [%s], [%p], 16; ";
  MOE_CHECK(copied(copy, Background::early) == sources());
  const std::string overwrite = "st.global.v4.u32 [%p], {7, 7, 7, 7}; ";
  MOE_CHECK(copied(copy + overwrite + "cp.async.commit_group; cp.async.wait_group 0; ", Background::early) ==
            sources());
}

MOE_TEST(copies_fill_with_zeros_what_they_do_not_read) {
  const std::string wait = "cp.async.commit_group; cp.async.wait_group 0; ";
  // Lane i reads i % 4 words.
  std::vector<uint32_t> expected = sources();
  for (uint32_t i = 0; i < 128; ++i) expected[i] = i % 4 < i / 4 % 4 ? expected[i] : 0;
  MOE_CHECK(copied("and.b32 %n, %i, 3; shl.b32 %n, %n, 2; cp.async.cg.shared.global [%s], [%p], 16, %n;" + wait) ==
            expected);
  // An ignored source is not even looked at.
  for (uint32_t i = 0; i < 128; ++i) expected[i] = i < 64 ? 0 : 1000 + i;
  MOE_CHECK(copied("setp.lt.u32 %x, %i, 16; @%x mov.b64 %p, 0; cp.async.cg.shared.global [%s], [%p], 16, %x;" + wait) ==
            expected);
  MOE_CHECK(copied("setp.lt.u32 %x, %i, 16; selp.b32 %n, 0, 16, %x; @%x mov.b64 %p, 0; "
                   "cp.async.cg.shared.global [%s], [%p], 16, %n;" +
                   wait) == expected);
  // 4 and 8 bytes.
  std::vector<uint32_t> four = kOld, eight = kOld;
  for (uint32_t i = 0; i < 128; ++i) {
    if (i % 4 < 1) four[i] = 1000 + i;
    if (i % 4 < 2) eight[i] = 1000 + i;
  }
  MOE_CHECK(copied("cp.async.ca.shared.global [%s], [%p], 4;" + wait) == four);
  MOE_CHECK(copied("cp.async.ca.shared.global [%s], [%p], 8;" + wait) == eight);
}

MOE_TEST(copies_that_a_gpu_would_not_do) {
  check_contains(copy_problem("add.u32 %s, %s, 4; cp.async.cg.shared.global [%s], [%p], 16;"),
                 "an access of 16 bytes at 1028 of shared memory is not aligned");
  check_contains(copy_problem("add.u64 %p, %p, 4; cp.async.cg.shared.global [%s], [%p], 16;"),
                 "the source of cp.async is not aligned");
  check_contains(copy_problem("add.u64 %p, %p, 16; cp.async.cg.shared.global [%s], [%p], 16;"),
                 "of the nearest memory below");
  check_contains(copy_problem("cp.async.cg.shared.global [%s], [%p], 16, 20;"), "cp.async reads 20 of 16 bytes");
  check_contains(copy_problem("setp.lt.u32 %x, %i, 5; @%x cp.async.commit_group;"),
                 "only some lanes of the warp commit their copies");
  check_contains(copy_problem("setp.lt.u32 %x, %i, 5; @%x cp.async.wait_group 0;"),
                 "only some lanes of the warp wait for their copies");
  for (const char* text :
       {"cp.async.cg.shared.global [%s], [%p], 12;", "cp.async.cg.shared.global [%s+16], [%p], 16;",
        "cp.async.cg.shared.global [%p], [%p], 16;", "cp.async.wait_all;", "cp.reduce.async.bulk [%s], [%p], 16;"}) {
    check_contains(copy_problem(text), "unknown instruction: cp.");
  }
}

}  // namespace ptx_machine::test
