// Products of four warps.
#include "product_types.h"

namespace ptx_machine::test {
namespace {

// A matrix in shared memory: its bytes, and what a descriptor says of them besides the address.
struct Panel {
  std::vector<uint8_t> bytes;
  unsigned leading = 0, stride = 0, swizzle = 0;
  unsigned begin = 0;  // of the part that is multiplied

  uint64_t descriptor(uint64_t address) const {
    return (address + begin) >> 4 | static_cast<uint64_t>(leading >> 4) << 16 |
           static_cast<uint64_t>(stride >> 4) << 32 | static_cast<uint64_t>(swizzle) << 62;
  }
};

void put(Panel& panel, size_t place, const ProductType& type, int value) {
  const uint32_t code = type.code(value);
  std::memcpy(panel.bytes.data() + place, &code, type.bits / 8);
}

// Rows of 128, 64 or 32 bytes along K, of which chunks of 16 bytes change places. The part begins `first` bytes into
// them.
template <class At>
Panel along_k(const ProductType& type, unsigned outer, unsigned row_bytes, unsigned first, At&& at) {
  const unsigned rows_per_period = 128 / row_bytes, chunks = row_bytes / 16;
  Panel panel{std::vector<uint8_t>(outer * row_bytes, 0xff), 0, 8 * row_bytes,
              row_bytes == 128  ? 1u
              : row_bytes == 64 ? 2u
                                : 3u,
              first};
  for (unsigned row = 0; row < outer; ++row) {
    for (unsigned k = 0; k < type.depth; ++k) {
      const unsigned byte = first + k * type.bits / 8, chunk = (byte / 16) ^ (row / rows_per_period % chunks);
      put(panel, row * row_bytes + chunk * 16 + byte % 16, type, at(row, k));
    }
  }
  return panel;
}

// Rows of 64 elements along the other axis: 8 rows of K, then the next 8, then the next 64 of the other axis.
template <class At>
Panel along_outer(const ProductType& type, unsigned outer, At&& at) {
  Panel panel{std::vector<uint8_t>((outer + 63) / 64 * type.depth * 128, 0xff), type.depth * 128, 1024, 1, 0};
  for (unsigned row = 0; row < outer; ++row) {
    for (unsigned k = 0; k < type.depth; ++k) {
      const unsigned chunk = (row % 64 / 8) ^ (k % 8);
      put(panel, row / 64 * type.depth * 128 + k * 128 + chunk * 16 + row % 8 * 2, type, at(row, k));
    }
  }
  return panel;
}

struct Layout {
  unsigned columns;
  unsigned row_bytes = 128;  // of A and B, unless they are transposed
  unsigned first = 0;
  bool a_in_registers = false, a_transposed = false, b_transposed = false, adds = true;
};

std::string list(const std::string& name, unsigned count) {
  std::string text;
  for (unsigned i = 0; i < count; ++i) text += (i > 0 ? ", " : "") + name + std::to_string(i);
  return text;
}

// d, A, B and the rest of the instruction.
std::string instruction(const ProductType& type, const Layout& layout) {
  const bool has_bytes = type.bits == 8;
  std::string text = "wgmma.mma_async.sync.aligned.m64n" + std::to_string(layout.columns) + "k" +
                     std::to_string(type.depth) + "." + type.sum + "." + type.name + "." + type.name + " {" +
                     list("%d", layout.columns / 2) + "}, " + (layout.a_in_registers ? "{%a0, %a1, %a2, %a3}" : "%x") +
                     ", %y, %adds";
  if (type.name != "s8") text += ", 1, 1";
  if (!has_bytes && !layout.a_in_registers) text += layout.a_transposed ? ", 1" : ", 0";
  if (!has_bytes) text += layout.b_transposed ? ", 1" : ", 0";
  return text + ";\n";
}

void check_wgmma(const ProductType& type, const Layout& layout) {
  const unsigned columns = layout.columns, sums = columns / 2;
  const Matrix a(64, type.depth, 1), b(type.depth, columns, 2), c(64, columns, 3, 100);
  const auto at_a = [&](unsigned row, unsigned k) { return a.at(row, k); };
  const auto at_b = [&](unsigned column, unsigned k) { return b.at(k, column); };
  const Panel panel_a =
      layout.a_transposed ? along_outer(type, 64, at_a) : along_k(type, 64, layout.row_bytes, layout.first, at_a);
  const Panel panel_b = layout.b_transposed ? along_outer(type, columns, at_b)
                                            : along_k(type, columns, layout.row_bytes, layout.first, at_b);
  // A, then B at a multiple of 1024 bytes. Dynamic shared memory begins at such an address too.
  std::vector<uint8_t> shared = panel_a.bytes;
  shared.resize((shared.size() + 1023) / 1024 * 1024);
  const uint64_t a_at = 1024, b_at = 1024 + shared.size();
  shared.insert(shared.end(), panel_b.bytes.begin(), panel_b.bytes.end());
  // Of each thread: 4 registers of A, then its sums.
  std::vector<uint32_t> registers(128 * (4 + sums));
  for (unsigned thread = 0; thread < 128; ++thread) {
    uint32_t* own = registers.data() + thread * (4 + sums);
    const std::vector<uint32_t> of_a = a_registers(type, a, thread / 32 * 16, thread % 32);
    std::copy(of_a.begin(), of_a.end(), own);
    for (unsigned i = 0; i < sums; ++i) {
      const auto [row, column] = sum_element(thread % 32, i);
      own[4 + i] = type.sum_code(c.at(thread / 32 * 16 + row, column));
    }
  }
  std::string body = ".reg .b32 %i, %s, %v, %a<4>, %d<" + std::to_string(sums) +
                     R"(>; .reg .b64 %p, %q, %x, %y; .reg .pred %z, %adds;
    ld.param.u64 %p, [p0]; mov.u32 %i, %tid.x; shl.b32 %i, %i, 2;
    fill: cvt.u64.u32 %q, %i; add.u64 %q, %q, %p; ld.global.u32 %v, [%q]; add.u32 %s, %i, data; st.shared.u32 [%s], %v;
    add.u32 %i, %i, 512; setp.lt.u32 %z, %i, )" +
                     std::to_string(shared.size()) + R"(; @%z bra fill; bar.sync 0;
    mov.u32 %i, %tid.x; ld.param.u64 %p, [p1]; mad.wide.u32 %p, %i, )" +
                     std::to_string(4 * (4 + sums)) + R"(, %p;
    ld.global.u32 %a0, [%p]; ld.global.u32 %a1, [%p+4]; ld.global.u32 %a2, [%p+8]; ld.global.u32 %a3, [%p+12];)";
  for (unsigned i = 0; i < sums; ++i)
    body += "ld.global.u32 %d" + std::to_string(i) + ", [%p+" + std::to_string(16 + 4 * i) + "];\n";
  body += "mov.u64 %x, " + std::to_string(panel_a.descriptor(a_at)) + "; mov.u64 %y, " +
          std::to_string(panel_b.descriptor(b_at)) + "; setp.eq.u32 %adds, " + (layout.adds ? "0" : "1") +
          ", 0; wgmma.fence.sync.aligned;\n" + instruction(type, layout) +
          "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;\n";
  for (unsigned i = 0; i < sums; ++i)
    body += "st.global.u32 [%p+" + std::to_string(16 + 4 * i) + "], %d" + std::to_string(i) + ";\n";
  Launch launch = block_of(128);
  launch.dynamic_shared_bytes = shared.size();
  run_module(".extern .shared .align 1024 .b8 data[];\n" + module_of(body, 2), {Memory(shared), Memory(registers)},
             launch);
  for (unsigned thread = 0; thread < 128; ++thread) {
    for (unsigned i = 0; i < sums; ++i) {
      const auto [in_warp, column] = sum_element(thread % 32, i);
      const unsigned row = thread / 32 * 16 + in_warp;
      const int right = product_at(a, b, row, column) + (layout.adds ? c.at(row, column) : 0);
      MOE_CHECK_EQUAL(registers[thread * (4 + sums) + 4 + i], type.sum_code(right));
    }
  }
}

// Sums of products of ones, which begin at zero, of the 128 threads: 16 for each product. %e is a second set of sums,
// or room for values.
std::string of_ones(const std::string& body) {
  std::string text =
      ".shared .align 1024 .b8 data[8192]; .reg .b32 %i, %s, %a<4>, %d<4>, %e<4>; .reg .b64 %x, %y, %p; "
      ".reg .pred %adds; ld.param.u64 %p, [p0]; mov.u32 %i, %tid.x; mad.wide.u32 %p, %i, 16, %p; "
      "shl.b32 %s, %i, 6; add.u32 %s, %s, data; setp.eq.u32 %adds, 0, 0; mov.u64 %x, " +
      std::to_string(Panel{{}, 0, 1024, 1, 0}.descriptor(1024)) + "; mov.u64 %y, %x;";
  const auto fill = [&](const std::string& value) {
    for (unsigned at = 0; at < 64; at += 4) text += "st.shared.u32 [%s+" + std::to_string(at) + "], " + value + ";";
    text += "bar.sync 0;";
  };
  fill("0x3f803f80");
  for (unsigned i = 0; i < 4; ++i) {
    const std::string n = std::to_string(i);
    text += "mov.b32 %a" + n + ", 0x3f803f80; mov.b32 %d" + n + ", 0; mov.b32 %e" + n + ", 0;";
  }
  return text + "wgmma.fence.sync.aligned;" + body + "st.global.v4.u32 [%p], {%d0, %d1, %d2, %d3};";
}

const std::string kProduct = instruction(kBf16, {.columns = 8}), kCommit = "wgmma.commit_group.sync.aligned; ",
                  kFence = "wgmma.fence.sync.aligned; ", kWait = "wgmma.wait_group.sync.aligned 0; ",
                  kWaitButOne = "wgmma.wait_group.sync.aligned 1; ", kToOther = "mov.b32 %e0, %d0; ",
                  kFromOther = "mov.b32 %d0, %e0; ";

// The first of a thread's sums, which is the same in all threads.
float sum_of_ones(const std::string& body, Background when = Background::late) {
  std::vector<float> sums(512);
  Launch launch = block_of(128);
  launch.background = when;
  run_body(of_ones(body), {Memory(sums)}, launch);
  for (size_t i = 0; i < 512; i += 4) MOE_CHECK(same(sums[i], sums[0]));
  return sums[0];
}

std::string problem_of_ones(const std::string& body) {
  std::vector<float> sums(512);
  return problem_of(of_ones(body), {Memory(sums)}, block_of(128));
}

}  // namespace

MOE_TEST(wgmma_of_all_types) {
  for (const ProductType& type : {kBf16, kF16, kE4M3, kS8}) {
    for (const unsigned columns : {8u, 24u, 128u, 256u}) check_wgmma(type, {.columns = columns});
    check_wgmma(type, {.columns = 64, .a_in_registers = true});
    check_wgmma(type, {.columns = 64, .adds = false});
    check_wgmma(type, {.columns = 16, .a_in_registers = true, .adds = false});
  }
}

MOE_TEST(wgmma_with_all_swizzles_and_parts_of_rows) {
  for (const ProductType& type : {kBf16, kS8}) {
    for (const unsigned row_bytes : {128u, 64u, 32u}) {
      for (unsigned first = 0; first < row_bytes; first += 32) {
        check_wgmma(type, {.columns = 32, .row_bytes = row_bytes, .first = first});
      }
    }
  }
}

MOE_TEST(wgmma_of_transposed_matrices) {
  for (const ProductType& type : {kBf16, kF16}) {
    check_wgmma(type, {.columns = 64, .a_transposed = true});
    check_wgmma(type, {.columns = 128, .b_transposed = true});
    check_wgmma(type, {.columns = 192, .a_transposed = true, .b_transposed = true});
    check_wgmma(type, {.columns = 64, .a_in_registers = true, .b_transposed = true});
  }
}

MOE_TEST(products_are_complete_after_the_wait) {
  for (const Background when : {Background::late, Background::early}) {
    MOE_CHECK_EQUAL(sum_of_ones(kProduct + kCommit + kWait, when), 16.0f);
    MOE_CHECK_EQUAL(sum_of_ones(kProduct + kProduct + kCommit + kProduct + kCommit + kWait, when), 48.0f);
  }
  // Not before, nor if others are added to the same sums.
  const std::string early = kProduct + kCommit + kToOther + kWait + kFromOther;
  MOE_CHECK(std::isnan(sum_of_ones(early)));
  MOE_CHECK_EQUAL(sum_of_ones(early, Background::early), 16.0f);
  MOE_CHECK(
      std::isnan(sum_of_ones(kProduct + kCommit + kProduct + kCommit + kWaitButOne + kToOther + kWait + kFromOther)));
  // Other sums of an older group are.
  std::string other = kProduct;
  for (size_t at; (at = other.find("%d")) != std::string::npos;) other[at + 1] = 'e';
  MOE_CHECK_EQUAL(sum_of_ones(kProduct + kCommit + other + kCommit + kWaitButOne + "mov.b32 %i, %d0; " + kWait +
                              "mov.b32 %d0, %i;"),
                  16.0f);
}

MOE_TEST(late_products_read_shared_memory_when_they_are_waited_for) {
  std::string twos;
  for (unsigned at = 0; at < 64; at += 4) twos += "st.shared.u32 [%s+" + std::to_string(at) + "], 0x40004000;";
  const std::string body = kProduct + kCommit + "bar.sync 0;" + twos + "bar.sync 0;" + kWait;
  MOE_CHECK_EQUAL(sum_of_ones(body), 64.0f);
  MOE_CHECK_EQUAL(sum_of_ones(body, Background::early), 16.0f);
}

MOE_TEST(registers_of_running_products) {
  MOE_CHECK_EQUAL(problem_of_ones(kProduct + kCommit + kWait), "");
  check_contains(problem_of_ones(kProduct + kCommit), "threads leave while a product is running");
  check_contains(problem_of_ones(kProduct + kWait), "threads leave while a product is running");
  check_contains(problem_of_ones(kProduct + kCommit + "mov.b32 %d2, 0;" + kWait),
                 "sums have changed while a product was running");
  const std::string from_registers = instruction(kBf16, {.columns = 8, .a_in_registers = true});
  MOE_CHECK_EQUAL(sum_of_ones(from_registers + kCommit + kWait), 16.0f);
  check_contains(problem_of_ones(from_registers + kCommit + "mov.b32 %a3, 0;" + kWait),
                 "A has changed while a product was running");
  std::string overlapping = kProduct;
  overlapping[overlapping.find("%d3") + 1] = 'e';
  check_contains(problem_of_ones(kProduct + overlapping + kCommit + kWait),
                 "products that run have some of these registers of sums, but not all");
}

MOE_TEST(registers_from_the_fence_to_the_product) {
  const std::string from_registers = instruction(kBf16, {.columns = 8, .a_in_registers = true});
  const std::string late = "a product without a wgmma.fence since the last wait, or at all",
                    changed = "a product's registers have changed since the wgmma.fence before it";
  const std::string to_sums = "mov.b32 %d2, 0x3f800000; ", to_a = "mov.b32 %a3, 0; ", end = kCommit + kWait;
  MOE_CHECK_EQUAL(problem_of_ones(to_sums + to_a + kFence + from_registers + end), "");
  check_contains(problem_of_ones(to_sums + kProduct + end), changed);
  check_contains(problem_of_ones(to_a + from_registers + end), changed);
  MOE_CHECK_EQUAL(problem_of_ones(to_a + kProduct + end), "");
  // Products that are added to the same sums are in order.
  for (const Background when : {Background::late, Background::early}) {
    MOE_CHECK_EQUAL(sum_of_ones(kProduct + from_registers + kCommit + kProduct + end, when), 48.0f);
    MOE_CHECK_EQUAL(sum_of_ones(kProduct + end + kFence + kProduct + end, when), 32.0f);
  }
  // A wait may be there to use the sums.
  check_contains(problem_of_ones(kProduct + end + kProduct + end), late);
  check_contains(problem_of_ones(kProduct + kCommit + kFence + kWait + kProduct + end), late);
}

MOE_TEST(products_take_all_warps_of_a_warpgroup) {
  const std::string begin = ".reg .b32 %j; .reg .pred %q; mov.u32 %j, %tid.x; shr.u32 %j, %j, 5; ";
  const std::string product = kProduct + kCommit + kWait;
  MOE_CHECK_EQUAL(problem_of_ones(begin + product), "");
  check_contains(problem_of_ones(begin + "setp.eq.u32 %q, %j, 2; @%q bra past; " + product + "past:"),
                 "other products of wgmma than the first warp of the warpgroup has begun, in block (0, 0, 0), warp 2");
  check_contains(problem_of_ones(begin + "setp.eq.u32 %q, %j, 3; @%q add.u64 %y, %y, 2; " + product), "warp 3");
  std::vector<float> sums(512);
  check_contains(problem_of(of_ones(product), {Memory(sums)}, block_of(96)),
                 "products of wgmma in a warpgroup that lacks warps, in block (0, 0, 0), warp 0");
}

MOE_TEST(wgmma_that_a_gpu_would_not_do) {
  const auto problem = [](const std::string& body, const Layout& layout = {.columns = 8}) {
    return problem_of(
        ".shared .align 1024 .b8 data[16384]; .reg .b32 %i, %a<4>, %d<4>; .reg .b64 %x, %y, %w; .reg .pred "
        "%adds, %q; mov.u32 %i, %tid.x; setp.eq.u32 %adds, 0, 0; mov.u64 %x, " +
            std::to_string(Panel{{}, 0, 1024, 1, 0}.descriptor(1024)) + "; mov.u64 %y, %x;" + body + kFence +
            instruction(kBf16, layout) + kCommit + kWait,
        {}, block_of(128));
  };
  MOE_CHECK_EQUAL(problem(""), "");
  check_contains(problem("cvt.u64.u32 %w, %i; add.u64 %y, %y, %w;"), "lanes have different descriptors of a matrix");
  check_contains(problem("setp.lt.u32 %adds, %i, 40;"),
                 "only some lanes add to their sums, in block (0, 0, 0), warp 1");
  check_contains(problem("and.b64 %y, %y, 0xffffffff;"), "a matrix without a swizzle is not known");
  check_contains(problem("or.b64 %y, %y, 0x2000000000000;"), "a matrix with a base offset is not known");
  check_contains(problem("xor.b64 %y, %y, 0xC000000000000000;", {.columns = 8, .b_transposed = true}),
                 "panels of other rows than of 128 bytes are not known");
  check_contains(problem("add.u64 %y, %y, 1024;"), "of shared memory, which is from 1024 to 17408");
  const std::string begin = ".reg .b32 %d; .reg .b64 %x; .reg .pred %p; ", four = " {%d, %d, %d, %d}, %x, %x, ";
  const std::string name = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16";
  check_contains(problem_of(begin + name + four + "%p, -1, 1, 0, 0;"), "negated matrices are not known");
  check_contains(problem_of(begin + name + four + "%p, 1, 1, 0;"), "an operand is missing");
  check_contains(problem_of(begin + name + four + "%p, 1, 1, 0, 0, 0;"), "too many operands");
  check_contains(problem_of(begin + name + four + "!%p, 1, 1, 0, 0;"), "unknown instruction");
  check_contains(problem_of(begin + name + " {%d, %d}, %x, %x, %p, 1, 1, 0, 0;"), "wgmma has other sums than columns");
  check_contains(problem_of(begin + name + " {%d, %d, %d, %d}, {%d, %d}, %x, %p, 1, 1, 0;"), "A has four registers");
  check_contains(problem_of(begin + "wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16" + four + "%p, 1, 1, 0, 0;"),
                 "unknown instruction");
  check_contains(problem_of("wgmma.wait_group.sync.aligned;"), "an operand is missing");
}

}  // namespace ptx_machine::test
