#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "json.h"

/** A safetensors file, mapped. */
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY);
    struct stat status {};
    if (file < 0 || fstat(file, &status) != 0) throw std::runtime_error(path + ": cannot be opened");
    size_ = static_cast<std::size_t>(status.st_size);
    void* mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (mapped == MAP_FAILED) throw std::runtime_error(path + ": cannot be mapped");
    bytes_ = static_cast<const char*>(mapped);
    std::uint64_t header = 0;
    std::memcpy(&header, bytes_, sizeof header);
    header_ = Json::parse(std::string(bytes_ + sizeof header, header));
    data_ = bytes_ + sizeof header + header;
  }
  ~SafetensorsFile() { munmap(const_cast<char*>(bytes_), size_); }
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  bool has(const std::string& name) const { return header_.members.count(name) != 0; }
  std::string dtype(const std::string& name) const { return header_.at(name).at("dtype").text; }

  /** An entry of the file's metadata; empty if there is none. */
  std::string metadata(const std::string& name) const {
    if (!has("__metadata__") || header_.at("__metadata__").members.count(name) == 0) return "";
    return header_.at("__metadata__").at(name).text;
  }
  std::size_t bytes(const std::string& name) const { return offset(name, 1) - offset(name, 0); }

  /** The elements of a tensor, which must have this dtype. */
  template <class Element>
  const Element* read(const std::string& name, const std::string& dtype) const {
    if (this->dtype(name) != dtype) {
      throw std::runtime_error(name + ": expected dtype " + dtype + ", got " + this->dtype(name));
    }
    return reinterpret_cast<const Element*>(data_ + offset(name, 0));
  }

 private:
  /** Where a tensor begins, or ends. */
  std::size_t offset(const std::string& name, std::size_t end) const {
    return static_cast<std::size_t>(header_.at(name).at("data_offsets").items.at(end).number);
  }

  const char* bytes_ = nullptr;
  const char* data_ = nullptr;
  std::size_t size_ = 0;
  Json header_;
};
