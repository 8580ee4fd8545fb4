#include "gpu/runtime/capability.h"

#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>

namespace moe::gpu {

Status read_capability(int most, int* capability) {
  const char* text = std::getenv("MOE_GPU_CAPABILITY");
  if (text == nullptr) return {};
  const std::string_view view = text;
  int value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc{} || end != view.data() + view.size() || value < 80 || value > most) {
    return {Code::invalid_argument, "MOE_GPU_CAPABILITY must be from 80, for compute capability 8.0, to " +
                                        std::to_string(most) + ", got \"" + std::string(view) + "\""};
  }
  *capability = value;
  return {};
}

}  // namespace moe::gpu
