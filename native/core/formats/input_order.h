// Checks of what weights do to their inputs, for devices that keep codes as they are.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"

namespace moe {

// INVALID_ARGUMENT unless `order` [columns], in the host's memory, names every input once.
inline Status check_input_order(const int32_t* order, int64_t columns) {
  std::vector<bool> named(static_cast<size_t>(columns), false);
  for (int64_t column = 0; column < columns; ++column) {
    const int32_t input = order[column];
    const bool exists = input >= 0 && input < columns;
    if (exists && !named[static_cast<size_t>(input)]) {
      named[static_cast<size_t>(input)] = true;
      continue;
    }
    const std::string expected = exists ? "every input once" : "from 0 to " + std::to_string(columns - 1);
    return {Code::invalid_argument, "setExpert: inputOrder[" + std::to_string(column) + "]: expected " + expected +
                                        ", got " + std::to_string(input)};
  }
  return {};
}

// Of a gate and an up projection that one product multiplies.
inline Status different_inputs() {
  return {Code::unsupported_operation,
          "setExpert: expected a gate and an up projection with the same input scales and orders, got different ones; "
          "store them in a plain format"};
}

}  // namespace moe
