// The environment variables that say how devices work, as JavaScript has them. Nothing here asks the system for one:
// JavaScript on another thread may set a variable (process.env) meanwhile, which getenv() does not survive.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace moe {

struct Variables {
  std::map<std::string, std::string, std::less<>> values;

  // Null if it is not set.
  const std::string* find(std::string_view name) const {
    const auto found = values.find(name);
    return found == values.end() ? nullptr : &found->second;
  }
};

}  // namespace moe
