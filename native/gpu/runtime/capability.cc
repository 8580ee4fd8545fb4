#include "gpu/runtime/capability.h"

#include <string>

#include "core/whole_number.h"

namespace moe::gpu {

Status read_capability(const Variables& variables, int most, int* capability) {
  const std::string* text = variables.find("MOE_GPU_CAPABILITY");
  if (text == nullptr) return {};
  int value = 0;
  if (!read_whole_number(*text, &value) || value < 80 || value > most) {
    return {Code::invalid_argument, "MOE_GPU_CAPABILITY must be from 80, for compute capability 8.0, to " +
                                        std::to_string(most) + ", got \"" + *text + "\""};
  }
  *capability = value;
  return {};
}

}  // namespace moe::gpu
