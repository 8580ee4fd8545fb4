// Loads, stores and atomics.
#include "support.h"

namespace ptx_machine::test {
namespace {

// The bytes of memory, as an integer.
template <class Element>
Element element_at(const std::vector<uint8_t>& bytes, size_t offset) {
  Element value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::vector<uint8_t> counted_bytes(size_t count) {
  std::vector<uint8_t> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(i * 37 + 11);
  return bytes;
}

// A load of `kCount` elements into registers of another width, which are stored as they are.
template <class Element, class Register, size_t kCount>
void check_load(const std::string& type, const std::string& space, const std::string& prepare) {
  std::vector<uint8_t> from = counted_bytes(32 * kCount * sizeof(Element));
  std::vector<Register> to(32 * kCount, Register{1});
  const std::string bits = ".b" + std::to_string(8 * sizeof(Register)),
                    vector = kCount == 1 ? "" : "v" + std::to_string(kCount);
  std::string names;
  for (size_t i = 0; i < kCount; ++i) names += (i > 0 ? ", %v" : "%v") + std::to_string(i);
  std::string body = ".reg .b32 %i; .reg .b64 %p, %q; .reg " + bits +
                     " %v<4>; mov.u32 %i, %tid.x; ld.param.u64 %p, [p0];" + "mad.wide.u32 %p, %i, " +
                     std::to_string(kCount * sizeof(Element)) + ", %p; ld.param.u64 %q, [p1]; mad.wide.u32 %q, %i, " +
                     std::to_string(kCount * sizeof(Register)) + ", %q;" + prepare + "ld" + space +
                     (vector.empty() ? "" : "." + vector) + "." + type + " " +
                     (kCount == 1 ? names : "{" + names + "}") + ", [%p];";
  for (size_t i = 0; i < kCount; ++i) {
    body += "st.global" + bits + " [%q+" + std::to_string(i * sizeof(Register)) + "], %v" + std::to_string(i) + ";\n";
  }
  run_body(body, {Memory(from), Memory(to)}, block_of(32));
  for (size_t i = 0; i < to.size(); ++i) {
    // Signed elements are extended by their sign, others by zeros.
    const auto right = static_cast<Register>(element_at<Element>(from, i * sizeof(Element)));
    MOE_CHECK_EQUAL("ld." + vector + type + " " + std::to_string(to[i]),
                    "ld." + vector + type + " " + std::to_string(right));
  }
}

template <class Element, class Register>
void check_loads(const std::string& type) {
  for (const char* space : {".global", ""}) {
    check_load<Element, Register, 1>(type, space, "");
    check_load<Element, Register, 2>(type, space, "");
    if constexpr (sizeof(Element) < 8) check_load<Element, Register, 4>(type, space, "");
  }
}

// A store from wider registers keeps the lower bits.
template <class Element, class Register, size_t kCount>
void check_store(const std::string& type) {
  std::vector<Register> from = Bits(kCount).many<Register>(32 * kCount);
  std::vector<uint8_t> to(32 * kCount * sizeof(Element));
  const std::string bits = ".b" + std::to_string(8 * sizeof(Register)),
                    vector = kCount == 1 ? "" : ".v" + std::to_string(kCount);
  std::string names;
  for (size_t i = 0; i < kCount; ++i) names += (i > 0 ? ", %v" : "%v") + std::to_string(i);
  std::string body = ".reg .b32 %i; .reg .b64 %p, %q; .reg " + bits +
                     " %v<4>; mov.u32 %i, %tid.x; ld.param.u64 %p, [p0];" + "mad.wide.u32 %p, %i, " +
                     std::to_string(kCount * sizeof(Register)) + ", %p; ld.param.u64 %q, [p1]; mad.wide.u32 %q, %i, " +
                     std::to_string(kCount * sizeof(Element)) + ", %q;";
  for (size_t i = 0; i < kCount; ++i) {
    body += "ld.global" + bits + " %v" + std::to_string(i) + ", [%p+" + std::to_string(i * sizeof(Register)) + "];\n";
  }
  body += "st.global" + vector + "." + type + " [%q], " + (kCount == 1 ? names : "{" + names + "}") + ";";
  run_body(body, {Memory(from), Memory(to)}, block_of(32));
  for (size_t i = 0; i < from.size(); ++i) {
    const auto stored = element_at<Element>(to, i * sizeof(Element));
    MOE_CHECK_EQUAL("st" + vector + type + " " + std::to_string(stored),
                    "st" + vector + type + " " + std::to_string(static_cast<Element>(from[i])));
  }
}

}  // namespace

MOE_TEST(loads_extend_elements_to_registers_of_all_widths) {
  check_loads<uint8_t, uint16_t>("u8");
  check_loads<uint8_t, uint32_t>("b8");
  check_loads<uint8_t, uint64_t>("u8");
  check_loads<int8_t, int16_t>("s8");
  check_loads<int8_t, int32_t>("s8");
  check_loads<int8_t, int64_t>("s8");
  check_loads<uint16_t, uint16_t>("b16");
  check_loads<uint16_t, uint32_t>("u16");
  check_loads<uint16_t, uint64_t>("u16");
  check_loads<int16_t, int32_t>("s16");
  check_loads<int16_t, int64_t>("s16");
  check_loads<uint32_t, uint32_t>("f32");
  check_loads<uint32_t, uint64_t>("u32");
  check_loads<int32_t, int64_t>("s32");
  check_loads<uint64_t, uint64_t>("b64");
  // What is said of caches and order changes nothing.
  check_load<uint32_t, uint32_t, 4>("u32", ".global.nc.L1::no_allocate", "");
  check_load<uint32_t, uint32_t, 1>("u32", ".volatile.global", "");
  check_load<uint32_t, uint32_t, 1>("u32", ".relaxed.gpu.global", "");
}

MOE_TEST(stores_keep_the_lower_bits) {
  check_store<uint8_t, uint16_t, 1>("u8");
  check_store<uint8_t, uint32_t, 2>("b8");
  check_store<uint8_t, uint32_t, 4>("u8");
  check_store<uint16_t, uint16_t, 4>("b16");
  check_store<uint16_t, uint32_t, 2>("u16");
  check_store<uint32_t, uint32_t, 1>("f32");
  check_store<uint32_t, uint32_t, 2>("b32");
  check_store<uint32_t, uint32_t, 4>("b32");
  check_store<uint64_t, uint64_t, 1>("b64");
  check_store<uint64_t, uint64_t, 2>("b64");
}

MOE_TEST(words_about_caches_and_order_change_nothing) {
  for (const std::string word : {"volatile", "relaxed.gpu", "acquire.sys", "weak", "nc", "ca", "cg", "cs", "lu", "cv",
                                 "L1::no_allocate", "L1::evict_first"}) {
    std::vector<uint32_t> words{3, 4};
    run_body(".reg .b64 %p; .reg .b32 %r; ld.param.u64 %p, [p0]; ld." + word +
                 ".global.u32 %r, [%p]; st.global.u32 [%p+4], %r;",
             {Memory(words)}, block_of(1));
    MOE_CHECK_EQUAL(words[1], 3u);
  }
  for (const std::string word : {"release.cta", "acq_rel.gpu", "wb", "wt"}) {
    std::vector<uint32_t> words{3};
    run_body(
        ".reg .b64 %p; .shared .align 4 .b8 data[4]; .reg .b32 %r; ld.param.u64 %p, [p0]; st.shared::cta.u32 [data], "
        "8; "
        "ld.shared.u32 %r, [data]; st." +
            word + ".global.u32 [%p], %r;",
        {Memory(words)}, block_of(1));
    MOE_CHECK_EQUAL(words[0], 8u);
  }
}

MOE_TEST(constants_are_stored_with_the_width_of_the_type) {
  std::vector<uint32_t> to(4, 0xaaaaaaaau);
  run_body(R"(.reg .b64 %p; ld.param.u64 %p, [p0]; st.global.u8 [%p], 255; st.global.u16 [%p+4], 4660;
    st.global.v2.u32 [%p+8], {1, -2};)",
           {Memory(to)}, block_of(1));
  MOE_CHECK(to == (std::vector<uint32_t>{0xaaaaaaff, 0xaaaa1234, 1, 0xfffffffe}));
}

MOE_TEST(parameters_of_all_sizes_have_their_places) {
  // The third one is a struct, read by its elements, some of them by an address in a register.
  const std::string module = R"(
.visible .entry k(
	.param .u64 result, // an address
	.param .u8 small,
	.param .align 8 .b8 all[24],
	.param .f32 number
)
.maxntid 64, 2, 1
{
	.reg .b64 %p<4>; .reg .b32 %r<6>; .reg .b16 %s;
	/* a comment ; with a semicolon */
	ld.param.u64 %p0, [result];
	ld.param.u8 %s, [small];
	cvt.u32.u16 %r0, %s;
	ld.param.v2.u32 {%r1, %r2}, [all+8];
	mov.b64 %p1, all;
	add.s64 %p1, %p1, 16;
	ld.param.u32 %r3, [%p1+4];
	ld.param.f32 %r4, [number];
	st.global.v4.b32 [%p0], {%r0, %r1, %r2, %r3};
	st.global.b32 [%p0+16], %r4;
	ret;
}
)";
  const Kernel kernel = read_kernel(module, "k");
  std::vector<std::pair<size_t, size_t>> places;
  for (const auto& [offset, bytes] : kernel.parameters) places.emplace_back(offset, bytes);
  MOE_CHECK(places == (std::vector<std::pair<size_t, size_t>>{{0, 8}, {8, 1}, {16, 24}, {40, 4}}));
  MOE_CHECK_EQUAL(kernel.parameter_bytes, size_t{44});
  MOE_CHECK_EQUAL(kernel.most_threads, 128u);
  std::vector<uint32_t> result(5);
  Launch launch = block_of(32);
  launch.parameters.resize(44);
  const auto put = [&](size_t offset, auto value) {
    std::memcpy(launch.parameters.data() + offset, &value, sizeof value);
  };
  put(0, result.data());
  put(8, uint8_t{200});
  put(24, uint32_t{5});
  put(28, uint32_t{6});
  put(36, uint32_t{7});
  put(40, 1.0f);
  const Range memory{result.data(), 20};
  run(kernel, launch, std::span(&memory, 1));
  MOE_CHECK(result == (std::vector<uint32_t>{200, 5, 6, 7, 0x3f800000}));
}

MOE_TEST(each_thread_has_its_own_local_memory) {
  std::vector<uint32_t> results(64);
  run_body(R"(.local .align 8 .b8 __local_depot0[40]; .reg .b32 %i, %v, %w; .reg .b64 %p, %l;
    mov.u32 %i, %tid.x; mov.u64 %l, __local_depot0; add.u64 %l, %l, 32;
    st.local.u32 [%l], %i; mul.lo.u32 %v, %i, %i; st.local.u32 [__local_depot0+4], %v; bar.sync 0;
    ld.local.u32 %v, [__local_depot0+32]; ld.local.u32 %w, [%l+-28]; mad.lo.u32 %v, %v, 10000, %w;
    ld.param.u64 %p, [p0]; mad.wide.u32 %p, %i, 4, %p; st.global.u32 [%p], %v;)",
           {Memory(results)}, block_of(64));
  for (uint32_t i = 0; i < 64; ++i) MOE_CHECK_EQUAL(results[i], i * 10000 + i * i);
}

MOE_TEST(shared_memory_is_the_blocks_own) {
  // Two static variables, and what is dynamic behind them. Blocks begin with other bytes than zeros.
  const std::string module = R"(
.extern .shared .align 16 .b8 dynamic[];
.visible .entry k(.param .u64 p0) {
	.shared .align 4 .b8 first[12];
	.shared .align 16 .f32 second[4];
	.reg .b32 %i, %v, %w, %block; .reg .b64 %p; .reg .pred %x;
	mov.u32 %i, %tid.x; mov.u32 %block, %ctaid.x;
	ld.shared.u32 %w, [dynamic+252];
	mad.lo.u32 %v, %block, 100, %i;
	shl.b32 %i, %i, 2;
	add.u32 %i, %i, dynamic;
	st.shared.u32 [%i], %v;
	bar.sync 0;
	ld.shared.u32 %v, [dynamic+252];
	mov.u32 %i, second; and.b32 %i, %i, 15; add.u32 %v, %v, %i;
	st.shared.u32 [first+8], %v; st.shared.u32 [second], 0; ld.shared.u32 %v, [first+8];
	ld.param.u64 %p, [p0]; mad.wide.u32 %p, %block, 8, %p; st.global.v2.u32 [%p], {%v, %w};
	ret;
}
)";
  MOE_CHECK_EQUAL(read_kernel(module, "k").static_shared_bytes, size_t{32});
  std::vector<uint32_t> results(40);
  run_module(module, {Memory(results)},
             {.grid = {20, 1, 1}, .block = {64, 1, 1}, .dynamic_shared_bytes = 256, .parameters = {}});
  for (uint32_t block = 0; block < 20; ++block) {
    MOE_CHECK_EQUAL(results[2 * block], block * 100 + 63);
    MOE_CHECK_EQUAL(results[2 * block + 1], 0xffffffffu);
  }
}

MOE_TEST(tables_in_global_memory_have_their_values) {
  const std::string module = R"(
.global .align 4 .b8 table[8] = {1, 2, 3, 4, 250, 251, 252, 253};
.global .align 8 .b8 other[3] = {9, 8, 7};
.visible .entry k(.param .u64 p0) {
	.reg .b32 %v, %w; .reg .b64 %p, %t;
	ld.param.u64 %p, [p0]; mov.u64 %t, table;
	ld.global.u32 %v, [%t+4]; ld.global.u8 %w, [other+2];
	st.global.v2.u32 [%p], {%v, %w};
	ret;
}
.visible .entry second(.param .u64 p0) { ret; }
)";
  std::vector<uint32_t> results(2);
  run_module(module, {Memory(results)}, block_of(1));
  MOE_CHECK(results == (std::vector<uint32_t>{0xfdfcfbfa, 7}));
}

namespace {

// 3 blocks of 70 threads each do an atomic at the same place.
template <class T>
T after_atomics(const std::string& body, T begin, std::vector<T>* old = nullptr) {
  std::vector<T> place{begin}, results(210);
  run_body(".reg .b32 %i, %block; .reg .b64 %p, %q; .reg " + bits_type<T>() + R"( %v, %old; .reg .b16 %half;
    mov.u32 %i, %tid.x; mov.u32 %block, %ctaid.x; mad.lo.u32 %i, %block, 70, %i; ld.param.u64 %p, [p0]; ld.param.u64 %q, [p1];
    mad.wide.u32 %q, %i, )" +
               std::to_string(sizeof(T)) + ", %q;" + body + "st.global" + bits_type<T>() + " [%q], %old;",
           {Memory(place), Memory(results)}, {.grid = {3, 1, 1}, .block = {70, 1, 1}, .parameters = {}});
  std::sort(results.begin(), results.end());
  if (old != nullptr) *old = results;
  return place[0];
}

}  // namespace

MOE_TEST(atomics_of_several_blocks) {
  const std::string u32 = "mov.u32 %v, %i;", u64 = "cvt.u64.u32 %v, %i;";
  std::vector<uint32_t> old;
  MOE_CHECK_EQUAL(after_atomics<uint32_t>("atom.global.add.u32 %old, [%p], 1;", 5, &old), 215u);
  for (uint32_t i = 0; i < 210; ++i) MOE_CHECK_EQUAL(old[i], 5 + i);
  MOE_CHECK_EQUAL(after_atomics<uint32_t>("atom.add.u32 %old, [%p+0], 3;", 0), 630u);
  MOE_CHECK_EQUAL(after_atomics<uint32_t>("mov.u32 %old, 0; red.global.add.u32 [%p], 2;", 0), 420u);
  MOE_CHECK_EQUAL(after_atomics<uint32_t>("mov.u32 %old, 0; atom.relaxed.gpu.global.add.u32 _, [%p], 2;", 0), 420u);
  MOE_CHECK_EQUAL(after_atomics<uint32_t>(u32 + "atom.global.max.u32 %old, [%p], %v;", 100), 209u);
  MOE_CHECK_EQUAL(after_atomics<uint32_t>(u32 + "atom.global.min.u32 %old, [%p], %v;", 100), 0u);
  MOE_CHECK_EQUAL(after_atomics<uint32_t>(u32 + "sub.u32 %v, %v, 9; atom.global.min.s32 %old, [%p], %v;", 100), 0u - 9);
  MOE_CHECK_EQUAL(after_atomics<uint32_t>(u32 + "sub.u32 %v, %v, 9; atom.global.max.s32 %old, [%p], %v;", 0u - 100),
                  200u);
  MOE_CHECK_EQUAL(after_atomics<uint32_t>(u32 + "atom.global.or.b32 %old, [%p], %v;", 256), 511u);
  MOE_CHECK_EQUAL(after_atomics<uint32_t>(u32 + "or.b32 %v, %v, 8; atom.global.and.b32 %old, [%p], %v;", 0xfff), 8u);
  MOE_CHECK_EQUAL(after_atomics<uint64_t>(u64 + "atom.global.add.u64 %old, [%p], %v;", uint64_t{1} << 40),
                  (uint64_t{1} << 40) + 209 * 105);
  MOE_CHECK_EQUAL(after_atomics<float>("atom.global.add.f32 %old, [%p], 0f3F000000;", 1.0f), 106.0f);
}

MOE_TEST(exchanges_lose_no_value) {
  std::vector<uint32_t> old;
  const uint32_t last = after_atomics<uint32_t>("mov.u32 %v, %i; atom.global.exch.b32 %old, [%p], %v;", 999, &old);
  old.push_back(last);
  std::sort(old.begin(), old.end());
  for (uint32_t i = 0; i < 210; ++i) MOE_CHECK_EQUAL(old[i], i);
  MOE_CHECK_EQUAL(old[210], 999u);
  // Only one of them finds what it expects.
  const uint32_t after = after_atomics<uint32_t>("add.u32 %v, %i, 1; atom.global.cas.b32 %old, [%p], 0, %v;", 0, &old);
  MOE_CHECK(after >= 1 && after <= 210);
  MOE_CHECK_EQUAL(old[0], 0u);
  for (size_t i = 1; i < 210; ++i) MOE_CHECK_EQUAL(old[i], after);
}

MOE_TEST(atomics_in_shared_memory) {
  std::vector<uint32_t> result(1);
  run_body(R"(.shared .align 4 .b8 sum[4]; .reg .b32 %i; .reg .b64 %p; .reg .pred %first;
    mov.u32 %i, %tid.x; setp.eq.u32 %first, %i, 0; @%first st.shared.u32 [sum], 0; bar.sync 0;
    red.shared.add.u32 [sum], %i; bar.sync 0;
    ld.param.u64 %p, [p0]; ld.shared.u32 %i, [sum]; st.global.u32 [%p], %i;)",
           {Memory(result)}, block_of(100));
  MOE_CHECK_EQUAL(result[0], 4950u);
  for (const char* text : {"atom.global.and.f32 %r, [%p], %r;", "atom.global.min.f32 %r, [%p], %r;",
                           "atom.global.inc.u32 %r, [%p], %r;", "atom.global.add.u16 %h, [%p], %h;"}) {
    check_contains(problem_of(std::string(".reg .b16 %h; .reg .b32 %r; .reg .b64 %p; ") + text),
                   "unknown instruction: atom");
  }
}

}  // namespace ptx_machine::test
