// Enums whose values have the same names in C++ and in JavaScript, written once.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

// MOE_ENUM(Drop, position, prioritized) declares an enum class and enum_names(Drop), the text of its values.
#define MOE_ENUM(Name, ...)                  \
  enum class Name : uint8_t { __VA_ARGS__ }; \
  constexpr std::string_view enum_names(Name) { return #__VA_ARGS__; }

namespace moe {

// use(value, name) for every value of an enum, in order.
template <class Enum, class Use>
constexpr void for_each_value(Use&& use) {
  std::string_view rest = enum_names(Enum{});
  for (int value = 0; !rest.empty(); ++value) {
    const size_t end = rest.find(',');
    use(static_cast<Enum>(value), rest.substr(0, end));
    const size_t next = end == rest.npos ? rest.npos : rest.find_first_not_of(' ', end + 1);
    rest = next == rest.npos ? std::string_view{} : rest.substr(next);
  }
}

template <class Enum>
constexpr std::string_view name_of(Enum value) {
  std::string_view found;
  for_each_value<Enum>([&](Enum candidate, std::string_view name) { found = candidate == value ? name : found; });
  return found;
}

// The value of this name, if there is one.
template <class Enum>
constexpr std::optional<Enum> value_of(std::string_view name) {
  std::optional<Enum> found;
  for_each_value<Enum>([&](Enum candidate, std::string_view own) { found = own == name ? candidate : found; });
  return found;
}

template <class Enum>
constexpr size_t longest_name() {
  size_t longest = 0;
  for_each_value<Enum>([&](Enum, std::string_view name) { longest = name.size() > longest ? name.size() : longest; });
  return longest;
}

}  // namespace moe
