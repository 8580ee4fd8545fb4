// Shuffles, votes, matches and reductions, by all lanes of a warp or by some.
#include "support.h"

namespace ptx_machine::test {
namespace {

// Lanes of `members` run the body, which has the value %a of lane and of 100 + lane for %i. Others have 0xdead.
std::vector<uint32_t> among(uint32_t members, const std::string& body, const std::vector<uint32_t>& values) {
  std::vector<uint32_t> sources = values;
  std::vector<uint32_t> results(32);
  run_body(R"(.reg .b32 %i, %a, %d, %m; .reg .b64 %p; .reg .pred %in, %q;
    mov.u32 %i, %tid.x; ld.param.u64 %p, [p0]; mad.wide.u32 %p, %i, 4, %p; ld.global.u32 %a, [%p];
    mov.u32 %d, 0xdead; mov.u32 %m, )" +
               std::to_string(members) +
               R"(; shr.u32 %m, %m, %i; and.b32 %m, %m, 1; setp.ne.u32 %in, %m, 0; mov.u32 %m, )" +
               std::to_string(members) + ";\n@!%in bra done;\n" + body +
               "\ndone: ld.param.u64 %p, [p1]; mad.wide.u32 %p, %i, 4, %p; st.global.u32 [%p], %d;",
           {Memory(sources), Memory(results)}, block_of(32));
  return results;
}

constexpr uint32_t kMembers[] = {0xffffffffu, 0x0000ffffu, 0x80000001u, 0xaaaaaaaau, 0x00000010u};

void check_members(uint32_t members, const std::string& body, const std::vector<uint32_t>& values, auto&& expected) {
  const std::vector<uint32_t> results = among(members, body, values);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const uint32_t right = members >> lane & 1 ? expected(lane) : 0xdead;
    MOE_CHECK_EQUAL(body + " lane " + std::to_string(lane) + ": " + std::to_string(results[lane]),
                    body + " lane " + std::to_string(lane) + ": " + std::to_string(right));
  }
}

}  // namespace

MOE_TEST(shuffles_of_all_modes_within_segments) {
  const std::vector<uint32_t> values = Bits(3).many<uint32_t>(32);
  for (const std::string mode : {"up", "down", "bfly", "idx"}) {
    for (const unsigned width : {32u, 16u, 8u, 4u, 2u, 1u}) {
      for (unsigned by = 0; by < 32; by += 1 + by / 4) {
        // As CUDA's __shfl_*_sync makes the last operand from a width. With a width of 1, all lanes are alone.
        const unsigned clamp = (32 - width) << 8 | (mode == "up" ? 0 : 31);
        check_members(0xffffffffu,
                      "shfl.sync." + mode + ".b32 %d|%q, %a, " + std::to_string(by) + ", " + std::to_string(clamp) +
                          ", 0xffffffff; @!%q not.b32 %d, %d;",
                      values, [&](uint32_t lane) {
                        const unsigned begin = lane / width * width, place = lane - begin;
                        unsigned from = place;
                        bool is_inside = true;
                        if (mode == "up") {
                          is_inside = place >= by;
                          from = place - by;
                        } else if (mode == "down") {
                          is_inside = place + by < width;
                          from = place + by;
                        } else if (mode == "bfly") {
                          // Also to an earlier segment, but not to a later one.
                          is_inside = (lane ^ by) < begin + width;
                          from = (lane ^ by) - begin;
                        } else {
                          from = by % width;
                        }
                        return is_inside ? values[begin + from] : ~values[lane];
                      });
      }
    }
  }
}

MOE_TEST(shuffles_by_lanes_of_their_own) {
  const std::vector<uint32_t> values = Bits(4).many<uint32_t>(32);
  check_members(0xffffffffu, "mad.lo.u32 %d, %i, 7, 3; shfl.sync.idx.b32 %d, %a, %d, 31, -1;", values,
                [&](uint32_t lane) { return values[(lane * 7 + 3) % 32]; });
  // The result takes the place of the source.
  check_members(0xffffffffu, "mov.u32 %d, %a; shfl.sync.down.b32 %d, %d, 1, 31, -1;", values,
                [&](uint32_t lane) { return values[lane < 31 ? lane + 1 : 31]; });
  // Some lanes alone.
  check_members(0x0000ff00u, "shfl.sync.bfly.b32 %d, %a, 5, 31, %m;", values,
                [&](uint32_t lane) { return values[lane ^ 5]; });
}

MOE_TEST(votes_count_the_lanes_that_take_part) {
  for (const uint32_t members : kMembers) {
    for (const uint32_t yes : {0u, 0xffffffffu, 0x0f0f0f0fu, 0x80000000u}) {
      std::vector<uint32_t> values(32);
      for (uint32_t lane = 0; lane < 32; ++lane) values[lane] = yes >> lane & 1;
      const std::string begin = "setp.ne.u32 %q, %a, 0; ", end = " selp.b32 %d, 1, 0, %q;";
      const uint32_t votes = yes & members, noes = ~yes & members;
      const auto check = [&](const std::string& body, uint32_t result) {
        check_members(members, begin + body, values, [&](uint32_t) { return result; });
      };
      check("vote.sync.ballot.b32 %d, %q, %m;", votes);
      check("vote.sync.ballot.b32 %d, !%q, %m;", noes);
      check("vote.sync.ballot.b32 %d, 1, %m;", members);
      check("vote.sync.any.pred %q, %q, %m;" + end, votes != 0);
      check("vote.sync.all.pred %q, %q, %m;" + end, noes == 0);
      check("vote.sync.all.pred %q, !%q, %m;" + end, votes == 0);
      check("vote.sync.uni.pred %q, %q, %m;" + end, votes == 0 || noes == 0);
    }
  }
}

MOE_TEST(matches_and_reductions_of_the_lanes_that_take_part) {
  std::vector<uint32_t> values = Bits(5).many<uint32_t>(32);
  for (size_t i = 0; i < 32; i += 3) values[i] = values[i % 2];
  for (const uint32_t members : kMembers) {
    check_members(members, "match.any.sync.b32 %d, %a, %m;", values, [&](uint32_t lane) {
      uint32_t same = 0;
      for (uint32_t other = 0; other < 32; ++other) {
        if ((members >> other & 1) != 0 && values[other] == values[lane]) same |= 1u << other;
      }
      return same;
    });
    check_members(members, ".reg .b64 %w; mov.b64 %w, {%i, %a}; match.any.sync.b64 %d, %w, %m;", values,
                  [&](uint32_t lane) { return 1u << lane; });
    check_members(members, "activemask.b32 %d;", values, [&](uint32_t) { return members; });
    const auto check = [&](const std::string& name, auto&& combine) {
      check_members(members, "redux.sync." + name + " %d, %a, %m;", values, [&](uint32_t) {
        bool is_first = true;
        uint32_t result = 0;
        for (uint32_t lane = 0; lane < 32; ++lane) {
          if ((members >> lane & 1) == 0) continue;
          result = is_first ? values[lane] : combine(result, values[lane]);
          is_first = false;
        }
        return result;
      });
    };
    const auto s = [](uint32_t x) { return static_cast<int32_t>(x); };
    check("add.u32", [](uint32_t x, uint32_t y) { return x + y; });
    check("add.s32", [](uint32_t x, uint32_t y) { return x + y; });
    check("min.u32", [](uint32_t x, uint32_t y) { return x < y ? x : y; });
    check("max.u32", [](uint32_t x, uint32_t y) { return x < y ? y : x; });
    check("min.s32", [&](uint32_t x, uint32_t y) { return s(x) < s(y) ? x : y; });
    check("max.s32", [&](uint32_t x, uint32_t y) { return s(x) < s(y) ? y : x; });
    check("and.b32", [](uint32_t x, uint32_t y) { return x & y; });
    check("or.b32", [](uint32_t x, uint32_t y) { return x | y; });
  }
}

MOE_TEST(lanes_that_are_not_there_give_no_value) {
  std::vector<uint32_t> values(32), results(32);
  const std::string lower = "setp.lt.u32 %q, %i, 16; @!%q bra skip;";
  const std::string begin = ".reg .b32 %i, %d; .reg .pred %q; mov.u32 %i, %tid.x; ";
  check_contains(
      problem_of(begin + lower + "shfl.sync.down.b32 %d, %i, 1, 31, 0xffff; skip:"),
      "lane 15 takes the value of lane 16, which does not take part, in block (0, 0, 0), warp 0, lanes 0000ffff, "
      "at: shfl.sync.down.b32 %d, %i, 1, 31, 0xffff, of k");
  check_contains(problem_of(begin + "setp.lt.u32 %q, %i, 16; @!%q ret; shfl.sync.bfly.b32 %d, %i, 1, 31, -1;"),
                 "an instruction for lanes that have left");
  check_contains(problem_of(begin + "shfl.sync.bfly.b32 %d, %i, 1, 31, 0xffff;"),
                 "lanes outside the instruction's mask");
}

}  // namespace ptx_machine::test
