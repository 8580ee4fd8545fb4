#pragma once

#include <chrono>
#include <iostream>
#include <sstream>

#include "json.h"

/** What a peer answers, as ../../peer_process.ts describes. */
class Commands {
 public:
  virtual ~Commands() = default;
  virtual void outputs(std::size_t tokens, const std::string& path) = 0;
  virtual std::vector<double> time(std::size_t tokens, double seconds) = 0;
};

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/** Writes the version and then answers commands, one JSON line each, until there are no more. */
inline void serve(Commands& peer, const std::string& version) {
  const auto answer = [](const std::string& result) { std::cout << "{\"result\": " << result << "}" << std::endl; };
  answer("\"" + version + "\"");
  for (std::string line; std::getline(std::cin, line);) {
    const Json command = Json::parse(line);
    const std::size_t tokens = command.integer("tokens");
    if (command.at("name").text == "outputs") {
      peer.outputs(tokens, command.at("path").text);
      answer("null");
      continue;
    }
    std::ostringstream times;
    for (const double seconds : peer.time(tokens, command.at("seconds").number)) {
      times << (times.tellp() == 0 ? "[" : ", ") << seconds;
    }
    answer(times.str() + "]");
  }
}

/** Runs a program; an error is a line on standard error and exit code 1. */
template <class Program>
int run_program(Program program) {
  try {
    program();
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
