// ldmatrix and stmatrix.
#include "support.h"

namespace ptx_machine::test {
namespace {

// The place of matrix `m`'s row in shared memory, in 16-bit elements. Rows are 48 bytes apart, and not in order.
size_t row_at(unsigned m, unsigned row) { return ((m * 8 + row) * 5 % 32) * 24; }

// Which row and column of a matrix a lane has in half `i` of its register.
std::pair<unsigned, unsigned> element_of(unsigned lane, unsigned i, bool transposed) {
  const unsigned row = lane / 4, column = 2 * (lane % 4) + i;
  return transposed ? std::pair{column, row} : std::pair{row, column};
}

constexpr size_t kElements = 32 * 24;

// Lane l of a warp has the address of row l % 8 of matrix l / 8; shared memory comes from p0 and goes to p1.
std::string kernel(const std::string& instruction, unsigned offset) {
  return ".extern .shared .align 16 .b8 data[];\n" +
         module_of(R"(.reg .b32 %i, %s, %v<4>; .reg .b64 %p, %q; .reg .b16 %h; .reg .pred %x;
    ld.param.u64 %p, [p0]; mov.u32 %i, 0;
    fill: mul.wide.u32 %q, %i, 2; add.u64 %q, %q, %p; ld.global.b16 %h, [%q]; shl.b32 %s, %i, 1; add.u32 %s, %s, data;
    st.shared.b16 [%s], %h; add.u32 %i, %i, 1; setp.lt.u32 %x, %i, )" +
                       std::to_string(kElements) +
                       R"(; @%x bra fill;
    mov.u32 %i, %tid.x; mul.lo.u32 %s, %i, 5; and.b32 %s, %s, 31; mad.lo.u32 %s, %s, 48, data;
    sub.u32 %s, %s, )" +
                       std::to_string(offset) + R"(;
    ld.param.u64 %p, [p1]; mad.wide.u32 %q, %i, 16, %p; ld.global.v4.u32 {%v0, %v1, %v2, %v3}, [%q];
    )" + instruction + R"(
    st.global.v4.u32 [%q], {%v0, %v1, %v2, %v3};
    ld.param.u64 %p, [p0]; mov.u32 %i, 0;
    drain: mul.wide.u32 %q, %i, 2; add.u64 %q, %q, %p; shl.b32 %s, %i, 1; add.u32 %s, %s, data; ld.shared.b16 %h, [%s];
    st.global.b16 [%q], %h; add.u32 %i, %i, 1; setp.lt.u32 %x, %i, )" +
                       std::to_string(kElements) + "; @%x bra drain;",
                   2);
}

void run_kernel(const std::string& instruction, unsigned offset, std::vector<uint16_t>& shared,
                std::vector<uint32_t>& registers) {
  Launch launch = block_of(32);
  launch.dynamic_shared_bytes = 2 * kElements;
  run_module(kernel(instruction, offset), {Memory(shared), Memory(registers)}, launch);
}

const std::string kNames[] = {"{%v0}", "{%v0, %v1}", "{%v0, %v1, %v2, %v3}"};

}  // namespace

MOE_TEST(ldmatrix_gives_each_lane_its_elements) {
  for (const unsigned log : {0u, 1u, 2u}) {
    for (const bool transposed : {false, true}) {
      std::vector<uint16_t> shared = Bits(log).many<uint16_t>(kElements);
      std::vector<uint32_t> registers(128, 99);
      const unsigned count = 1u << log;
      run_kernel("ldmatrix.sync.aligned.m8n8.x" + std::to_string(count) + (transposed ? ".trans" : "") +
                     ".shared.b16 " + kNames[log] + ", [%s+16];",
                 16, shared, registers);
      for (unsigned lane = 0; lane < 32; ++lane) {
        for (unsigned m = 0; m < 4; ++m) {
          uint32_t right = 99;
          if (m < count) {
            const auto [row, column] = element_of(lane, 0, transposed);
            const auto [row1, column1] = element_of(lane, 1, transposed);
            right = shared[row_at(m, row) + column] + (uint32_t{shared[row_at(m, row1) + column1]} << 16);
          }
          MOE_CHECK_EQUAL(registers[4 * lane + m], right);
        }
      }
    }
  }
}

MOE_TEST(stmatrix_stores_the_elements_of_each_lane) {
  for (const unsigned log : {0u, 1u, 2u}) {
    for (const bool transposed : {false, true}) {
      std::vector<uint16_t> shared(kElements, 7), expected = shared;
      std::vector<uint32_t> registers = Bits(log).many<uint32_t>(128);
      const unsigned count = 1u << log;
      for (unsigned lane = 0; lane < 32; ++lane) {
        for (unsigned m = 0; m < count; ++m) {
          for (unsigned i = 0; i < 2; ++i) {
            const auto [row, column] = element_of(lane, i, transposed);
            expected[row_at(m, row) + column] = static_cast<uint16_t>(registers[4 * lane + m] >> 16 * i);
          }
        }
      }
      run_kernel("stmatrix.sync.aligned.m8n8.x" + std::to_string(count) + (transposed ? ".trans" : "") +
                     ".shared.b16 [%s+32], " + kNames[log] + ";",
                 32, shared, registers);
      MOE_CHECK(shared == expected);
    }
  }
}

MOE_TEST(matrices_that_a_gpu_would_not_load) {
  const std::string begin = ".shared .align 16 .b8 data[128]; .reg .b32 %s, %v<4>; .reg .b64 %p; mov.u32 %s, data; ";
  check_contains(problem_of(begin + "add.u32 %s, %s, 8; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%v0}, [%s];"),
                 "an access of 16 bytes at 1032 of shared memory is not aligned");
  check_contains(problem_of(begin + "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%v0}, [%s+128];"),
                 "of shared memory, which");
  check_contains(problem_of(begin + "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%v0, %v1}, [%s];"),
                 "expected as many registers as x4 says");
  check_contains(problem_of(begin + "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%v0}, [%p];"), "unknown instruction");
  check_contains(problem_of(begin + "ldmatrix.sync.aligned.m16n16.x1.shared.b8 {%v0}, [%s];"), "unknown instruction");
}

MOE_TEST(matrices_take_the_whole_warp) {
  const std::string begin =
      ".shared .align 16 .b8 data[128]; .reg .b32 %s, %i, %v<4>; .reg .pred %q; mov.u32 %s, data; mov.u32 %i, %tid.x; "
      "setp.eq.u32 %q, %i, 30; ";
  const std::string load = "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%v0}, [%s];";
  const std::string problem = "an instruction for lanes that have left or never were";
  MOE_CHECK_EQUAL(problem_of(begin + load), "");
  check_contains(problem_of(begin + "@%q ret; " + load), problem);
  check_contains(problem_of(begin + load, {}, block_of(40)), problem);
  check_contains(problem_of(".reg .b32 %v; mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%v, %v, %v, %v}, "
                            "{%v, %v, %v, %v}, {%v, %v}, {%v, %v, %v, %v};",
                            {}, block_of(16)),
                 problem);
}

}  // namespace ptx_machine::test
