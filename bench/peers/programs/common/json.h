#pragma once

#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

/** A JSON value, as far as commands and safetensors headers need it. Text with \u escapes is refused. */
struct Json {
  enum class Kind { null, boolean, number, text, array, object } kind = Kind::null;
  bool boolean = false;
  double number = 0;
  std::string text;
  std::vector<Json> items;
  std::map<std::string, Json> members;

  static Json parse(const std::string& source);

  const Json& at(const std::string& name) const {
    const auto found = members.find(name);
    if (found == members.end()) throw std::runtime_error("expected a member \"" + name + "\" in a JSON object");
    return found->second;
  }
  bool flag(const std::string& name) const {
    const auto found = members.find(name);
    return found != members.end() && found->second.boolean;
  }
  std::int64_t integer(const std::string& name) const { return static_cast<std::int64_t>(at(name).number); }
};

class JsonParser {
 public:
  explicit JsonParser(const std::string& source) : next_(source.c_str()) {}

  Json value() {
    Json result;
    switch (peek()) {
      case '{':
        result.kind = Json::Kind::object;
        list('{', '}', [&] {
          const std::string name = text();
          expect(':');
          result.members[name] = value();
        });
        return result;
      case '[':
        result.kind = Json::Kind::array;
        list('[', ']', [&] { result.items.push_back(value()); });
        return result;
      case '"':
        result.kind = Json::Kind::text;
        result.text = text();
        return result;
      case 't':
      case 'f':
        result.kind = Json::Kind::boolean;
        result.boolean = *next_ == 't';
        word(result.boolean ? "true" : "false");
        return result;
      case 'n': word("null"); return result;
      default: {
        char* end = nullptr;
        result.kind = Json::Kind::number;
        result.number = std::strtod(next_, &end);
        if (end == next_) fail("a value");
        next_ = end;
        return result;
      }
    }
  }

 private:
  char peek() {
    while (std::isspace(static_cast<unsigned char>(*next_))) ++next_;
    return *next_;
  }
  [[noreturn]] void fail(const std::string& expected) {
    throw std::runtime_error("JSON: expected " + expected + ", got \"" + std::string(next_).substr(0, 20) + "\"");
  }
  void expect(char wanted) {
    if (peek() != wanted) fail(std::string(1, wanted));
    ++next_;
  }
  void word(const char* wanted) {
    for (; *wanted != 0; ++wanted) expect(*wanted);
  }
  std::string text() {
    expect('"');
    std::string result;
    for (; *next_ != '"'; ++next_) {
      if (*next_ == '\\') ++next_;
      if (*next_ == 0 || *next_ == 'u') {
        if (*next_ == 0 || next_[-1] == '\\') fail("the rest of a text without \\u");
      }
      result += *next_;
    }
    ++next_;
    return result;
  }
  template <class Item>
  void list(char open, char close, Item item) {
    expect(open);
    if (peek() == close) {
      ++next_;
      return;
    }
    for (;;) {
      item();
      if (peek() == close) break;
      expect(',');
    }
    ++next_;
  }

  const char* next_;
};

inline Json Json::parse(const std::string& source) { return JsonParser(source).value(); }
