// A folder that plays the root of the file system.
#pragma once

#include <filesystem>
#include <fstream>
#include <random>
#include <string>

namespace moe::test {

class SystemRoot {
 public:
  SystemRoot()
      : path_(std::filesystem::temp_directory_path() / ("moe_root_" + std::to_string(std::random_device()()))) {}
  ~SystemRoot() { std::filesystem::remove_all(path_); }
  SystemRoot(const SystemRoot&) = delete;
  SystemRoot& operator=(const SystemRoot&) = delete;

  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace moe::test
