// The test framework of the native code. MOE_TEST registers a test; a failing MOE_CHECK fails it and lets it go on.
//
//   MOE_TEST(a_shuffle_reads_the_lane_it_names) {
//     MOE_CHECK_EQUAL(shuffled[0], 3.0f);
//   }
//
// run_tests(argc, argv) runs the tests whose names contain one of the arguments, or all tests. It prints one line for
// each and "N passed, N failed", and returns the exit code. --list prints the names instead.
#pragma once

#include <cstdio>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

namespace moe::test {

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

// Failures of the running test.
inline std::vector<std::string>& failures() {
  static std::vector<std::string> all;
  return all;
}

struct Registration {
  Registration(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

inline void check(bool passed, const char* expression, const char* file, int line, const std::string& detail = "") {
  if (passed) return;
  failures().push_back(std::string(file) + ":" + std::to_string(line) + ": " + expression + detail);
}

template <class A, class B>
void check_equal(const A& actual, const B& expected, const char* expression, const char* file, int line) {
  if (actual == expected) return;
  std::ostringstream detail;
  detail << ": got " << actual << ", expected " << expected;
  check(false, expression, file, line, detail.str());
}

inline bool chosen(const char* name, const std::vector<std::string>& filters) {
  if (filters.empty()) return true;
  for (const std::string& filter : filters) {
    if (strstr(name, filter.c_str()) != nullptr) return true;
  }
  return false;
}

inline int run_tests(int argc, char** argv) {
  std::vector<std::string> filters(argv + 1, argv + argc);
  if (!filters.empty() && filters[0] == "--list") {
    for (const Test& test : tests()) puts(test.name);
    return 0;
  }
  int passed = 0, failed = 0;
  for (const Test& test : tests()) {
    if (!chosen(test.name, filters)) continue;
    failures().clear();
    test.body();
    const bool ok = failures().empty();
    ++(ok ? passed : failed);
    printf("%s %s\n", ok ? "pass" : "FAIL", test.name);
    constexpr size_t kShown = 10;
    for (size_t i = 0; i < failures().size() && i < kShown; ++i) printf("  %s\n", failures()[i].c_str());
    if (failures().size() > kShown) printf("  and %zu more\n", failures().size() - kShown);
    fflush(stdout);
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace moe::test

#define MOE_TEST(name)                                                     \
  static void name();                                                      \
  static const ::moe::test::Registration name##_registration(#name, name); \
  static void name()

#define MOE_CHECK(expression) ::moe::test::check(static_cast<bool>(expression), #expression, __FILE__, __LINE__)
#define MOE_CHECK_EQUAL(actual, expected) \
  ::moe::test::check_equal(actual, expected, #actual " == " #expected, __FILE__, __LINE__)
