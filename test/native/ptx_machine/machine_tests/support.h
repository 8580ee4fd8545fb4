// Runs small kernels of PTX text on the machine.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "check.h"
#include "machine/machine.h"

namespace ptx_machine::test {

// Memory of a kernel. Its parameters are the addresses of these, as ".param .u64" in this order, p0, p1 and so on.
struct Memory {
  template <class T>
  explicit Memory(std::vector<T>& values) : data(values.data()), bytes(values.size() * sizeof(T)) {}
  void* data;
  size_t bytes;
};

// A module of one kernel, k, of so many addresses.
inline std::string module_of(const std::string& body, size_t parameters) {
  std::string text = ".visible .entry k(";
  for (size_t i = 0; i < parameters; ++i)
    text += (i > 0 ? ", " : "") + std::string(".param .u64 p") + std::to_string(i);
  return text + ")\n{\n" + body + "\nret;\n}\n";
}

inline std::vector<std::byte> addresses_of(const std::vector<Memory>& memory) {
  std::vector<std::byte> parameters(8 * memory.size());
  for (size_t i = 0; i < memory.size(); ++i) std::memcpy(parameters.data() + 8 * i, &memory[i].data, 8);
  return parameters;
}

inline void run_module(const std::string& module, const std::vector<Memory>& memory, Launch launch) {
  launch.parameters = addresses_of(memory);
  std::vector<Range> ranges;
  for (const Memory& each : memory) ranges.push_back({each.data, each.bytes});
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.data < b.data; });
  run(read_kernel(module, "k"), launch, ranges);
}

inline void run_body(const std::string& body, const std::vector<Memory>& memory, const Launch& launch) {
  run_module(module_of(body, memory.size()), memory, launch);
}

// One block of these threads.
inline Launch block_of(unsigned threads) { return {.grid = {1, 1, 1}, .block = {threads, 1, 1}, .parameters = {}}; }

// What reading or running the kernel throws.
inline std::string problem_of(const std::string& body, const std::vector<Memory>& memory = {},
                              const Launch& launch = block_of(32)) {
  try {
    run_body(body, memory, launch);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

inline void check_contains(const std::string& text, const std::string& part) {
  if (text.find(part) == std::string::npos) MOE_CHECK_EQUAL(text, part);
}

// The type of registers that hold a T.
template <class T>
std::string bits_type() {
  return ".b" + std::to_string(8 * sizeof(T));
}

// Declares `name` and loads it from array `index` of the kernel, or stores it there: element %i.
template <class T>
std::string load_text(const std::string& name, size_t index) {
  return ".reg " + bits_type<T>() + " " + name + ";\nld.param.u64 %address, [p" + std::to_string(index) +
         "];\nmad.wide.u32 %address, %i, " + std::to_string(sizeof(T)) + ", %address;\nld.global" + bits_type<T>() +
         " " + name + ", [%address];\n";
}
template <class T>
std::string store_text(const std::string& name, size_t index) {
  return "ld.param.u64 %address, [p" + std::to_string(index) + "];\nmad.wide.u32 %address, %i, " +
         std::to_string(sizeof(T)) + ", %address;\nst.global" + bits_type<T>() + " [%address], " + name + ";\n";
}

// Results %d of the body for the sources %a, %b, %c, %e, ..., one thread for each of their elements. The last warp is
// not full.
template <class Result, class... Sources>
std::vector<Result> results_of(const std::string& body, const std::vector<Sources>&... sources) {
  const size_t count = std::max({sources.size()...});
  std::vector<Result> results(count);
  std::vector<Memory> memory{Memory(const_cast<std::vector<Sources>&>(sources))..., Memory(results)};
  std::string text = ".reg .pred %out;\n.reg .b64 %address;\n.reg .b32 %i;\n.reg .b32 %block;\n.reg " +
                     bits_type<Result>() +
                     " %d;\nmov.u32 %i, %tid.x;\nmov.u32 %block, %ctaid.x;\nmad.lo.u32 %i, %block, 32, %i;\n"
                     "setp.ge.u32 %out, %i, " +
                     std::to_string(count) + ";\n@%out ret;\n";
  size_t index = 0;
  ((text += load_text<Sources>(std::string("%") + "abcefg"[index], index), ++index), ...);
  text += "{\n" + body + "\n}\n" + store_text<Result>("%d", index);
  const auto blocks = static_cast<unsigned>((count + 31) / 32);
  run_body(text, memory, {.grid = {blocks, 1, 1}, .block = {32, 1, 1}, .parameters = {}});
  return results;
}

template <class T>
std::string shown(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    char text[64];
    std::snprintf(text, sizeof text, "%a", static_cast<double>(value));
    return text;
  } else {
    return std::to_string(value);
  }
}

// The same bits, or both NaN.
template <class T>
bool same(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
    return std::memcmp(&a, &b, sizeof a) == 0;
  }
  return a == b;
}

// Runs the body, and compares each result with that of a function of the sources.
template <class Result, class Function, class... Sources>
void check_lanes(const std::string& body, Function&& expected, const std::vector<Sources>&... sources) {
  const std::vector<Result> results = results_of<Result>(body, sources...);
  for (size_t i = 0; i < results.size(); ++i) {
    const Result right = expected(sources[i]...);
    if (same(results[i], right)) continue;
    std::string text = body + " of";
    ((text += " " + shown(sources[i])), ...);
    MOE_CHECK_EQUAL(text + ": " + shown(results[i]), shown(right));
  }
}

// All pairs of two lists' values.
template <class A, class B>
std::pair<std::vector<A>, std::vector<B>> pairs(const std::vector<A>& a, const std::vector<B>& b) {
  std::pair<std::vector<A>, std::vector<B>> all;
  for (const A& first : a) {
    for (const B& second : b) {
      all.first.push_back(first);
      all.second.push_back(second);
    }
  }
  return all;
}

// Bits without a pattern.
class Bits {
 public:
  explicit Bits(uint64_t seed) : state_(seed * 2 + 1) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545f4914f6cdd1dull;
  }
  template <class T>
  std::vector<T> many(size_t count) {
    std::vector<T> values(count);
    for (T& value : values) value = static_cast<T>(next() >> 16);
    return values;
  }

 private:
  uint64_t state_;
};

// Where integers end, and some between.
template <class T>
std::vector<T> integer_edges() {
  using U = std::make_unsigned_t<T>;
  const U top = static_cast<U>(U{1} << (8 * sizeof(T) - 1));
  std::vector<T> values;
  for (const U value : {U{0}, U{1}, U{2}, U{3}, U{7}, U{100}, static_cast<U>(top - 1), top, static_cast<U>(top + 1),
                        static_cast<U>(~U{0}), static_cast<U>(~U{1}), static_cast<U>(~U{0} / 3),
                        static_cast<U>(~U{0} / 255), static_cast<U>(U{1} << (4 * sizeof(T)))}) {
    values.push_back(static_cast<T>(value));
  }
  for (const U value : Bits(sizeof(T)).many<U>(12)) values.push_back(static_cast<T>(value));
  return values;
}

// Zeros, subnormal and normal numbers, infinities and NaN, of both signs.
inline std::vector<float> float_edges() {
  std::vector<float> values;
  for (const float value : {0.0f,
                            1.0f,
                            0.5f,
                            1.5f,
                            2.5f,
                            3.0f,
                            100.25f,
                            255.5f,
                            0x1p-126f,
                            0x1p-127f,
                            0x1p-149f,
                            0x1.fffffep127f,
                            0x1.fffffep-1f,
                            0x1.000002p0f,
                            0x1p24f,
                            0x1p31f,
                            0x1.234568p-20f,
                            0x1p63f,
                            std::bit_cast<float>(0x7f800000u),
                            std::bit_cast<float>(0x7fc00000u)}) {
    values.push_back(value);
    values.push_back(-value);
  }
  return values;
}

inline std::vector<double> double_edges() {
  std::vector<double> values;
  for (const float value : float_edges()) values.push_back(static_cast<double>(value));
  for (const double value : {0x1.fffffffffffffp1023, 0x1p-1074, 0x1.0000000000001p0, 0x1.23456789abcdep5}) {
    values.push_back(value);
    values.push_back(-value);
  }
  return values;
}

}  // namespace ptx_machine::test
