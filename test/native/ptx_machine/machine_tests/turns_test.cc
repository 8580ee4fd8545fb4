// The order in which the warps of a block run.
#include "support.h"

namespace ptx_machine::test {
namespace {

// The first of four warps writes, all read. Whether all find what it wrote.
bool all_find(const std::string& between, uint32_t turns) {
  std::vector<uint32_t> found(16 * 128);
  Launch launch = block_of(128);
  launch.grid = {16, 1, 1};
  launch.turns = turns;
  run_body(R"(.shared .align 4 .b8 data[4]; .reg .b32 %i, %b, %v; .reg .b64 %p; .reg .pred %w;
    ld.param.u64 %p, [p0]; mov.u32 %i, %tid.x; mov.u32 %b, %ctaid.x; setp.lt.u32 %w, %i, 32;
    mad.lo.u32 %i, %b, 128, %i; mad.wide.u32 %p, %i, 4, %p;
    @%w st.shared.u32 [data], 7;)" +
               between + "ld.shared.u32 %v, [data]; st.global.u32 [%p], %v;",
           {Memory(found)}, launch);
  return found == std::vector<uint32_t>(found.size(), 7);
}

}  // namespace

MOE_TEST(warps_run_in_order_or_by_chance) {
  MOE_CHECK(all_find("", 0));
  for (uint32_t turns = 1; turns < 20; ++turns) {
    MOE_CHECK(all_find("bar.sync 0;", turns));
    MOE_CHECK(!all_find("", turns));
    // The same numbers, the same order.
    MOE_CHECK(!all_find("", turns));
  }
}

}  // namespace ptx_machine::test
