#include "cpu/runtime/mapping.h"

#include <cstdint>
#include <string>

#if !defined(_WIN32)
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#endif

namespace moe::cpu {

#if defined(_WIN32)

Status Mapping::open(int, size_t, std::shared_ptr<Mapping>*) {
  return {Code::unsupported_operation, "weights cannot be mapped from a file on Windows"};
}

Mapping::~Mapping() = default;

#else

Status Mapping::open(int descriptor, size_t bytes, std::shared_ptr<Mapping>* mapping) {
  struct stat file;
  if (fstat(descriptor, &file) != 0 || bytes == 0 || static_cast<uint64_t>(file.st_size) < bytes) {
    return {Code::invalid_argument, "mapping: expected a file of at least " + std::to_string(bytes) + " bytes"};
  }
  void* data = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (data == MAP_FAILED) {
    return {Code::out_of_memory,
            "cannot map " + std::to_string(bytes) + " bytes of a file: " + std::string(std::strerror(errno))};
  }
  mapping->reset(new Mapping(data, bytes));
  return {};
}

Mapping::~Mapping() { munmap(data_, bytes_); }

#endif

}  // namespace moe::cpu
