// Which PTX of a fat binary a GPU gets.
#include "runtime/fat_binary.h"

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"

namespace {

template <class Number>
std::string bytes_of(Number number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

std::string entry(uint16_t kind, std::string payload) {
  payload.resize((payload.size() + 8) / 8 * 8);
  std::string text =
      bytes_of(kind) + bytes_of(uint16_t{0x101}) + bytes_of(uint32_t{88}) + bytes_of(uint64_t{payload.size()});
  text.resize(88);
  return text + payload;
}

std::string ptx(const std::string& target) { return ".version 8.0\n.target " + target + "\n"; }

std::string found(const std::vector<std::string>& entries, int capability, uint32_t magic = 0x466243b1) {
  std::string all;
  for (const std::string& each : entries) all += each;
  const std::string data =
      bytes_of(uint32_t{0xba55ed50}) + bytes_of(uint16_t{1}) + bytes_of(uint16_t{16}) + bytes_of(all.size()) + all;
  const std::string wrapper =
      bytes_of(magic) + bytes_of(uint32_t{1}) + bytes_of(data.data()) + bytes_of<const void*>(nullptr);
  try {
    const std::string text(ptx_machine::find_ptx(wrapper.data(), capability));
    return text.empty() ? "" : text.substr(text.find("sm_"), text.find('\n', 20) - text.find("sm_"));
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

}  // namespace

MOE_TEST(a_gpu_gets_the_newest_ptx_that_it_can_run) {
  const std::vector<std::string> entries = {entry(1, ptx("sm_90a")),
                                            entry(2,
                                                  "\x7f"
                                                  "ELF"),
                                            entry(1, ptx("sm_80")), entry(1, ptx("sm_89"))};
  for (const auto& [capability, target] :
       {std::pair{75, ""}, {80, "sm_80"}, {86, "sm_80"}, {89, "sm_89"}, {90, "sm_90a"}, {100, "sm_89"}}) {
    MOE_CHECK_EQUAL(found(entries, capability), target);
  }
  MOE_CHECK_EQUAL(found({entry(1, ptx("sm_90a")), entry(1, ptx("sm_90"))}, 90), "sm_90a");
  MOE_CHECK_EQUAL(found({entry(1, ptx("sm_90")), entry(1, ptx("sm_90a"))}, 90), "sm_90a");
}

MOE_TEST(what_is_no_ptx_as_text_is_said) {
  MOE_CHECK_EQUAL(found({entry(1, "compressed")}, 90),
                  "expected PTX as text, got none with a .target: build it with nvcc's --no-compress");
  MOE_CHECK_EQUAL(found({}, 90, 1), "expected a fat binary of nvcc, got another wrapper");
}
