// Whole numbers in text, such as names and environment variables.
#pragma once

#include <charconv>
#include <string_view>

namespace moe {

// Reads a number that the whole text is. False if it is none, or does not fit; the value then has no meaning.
template <class Integer>
bool read_whole_number(std::string_view text, Integer* value) {
  const char* const end = text.data() + text.size();
  const auto [read, error] = std::from_chars(text.data(), end, *value);
  return error == std::errc{} && read == end;
}

}  // namespace moe
