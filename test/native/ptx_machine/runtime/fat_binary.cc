#include "fat_binary.h"

#include <cctype>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace ptx_machine {
namespace {

struct Wrapper {
  uint32_t magic, version;
  const char* data;
  const void* more;
};

struct Header {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes;  // of all entries
};

struct Entry {
  uint16_t kind, version;
  uint32_t header_bytes;
  uint64_t bytes;
};

constexpr uint32_t kWrapper = 0x466243b1, kBinary = 0xba55ed50;
constexpr uint16_t kPtx = 1;

template <class Part>
Part read(const char* data) {
  Part part;
  std::memcpy(&part, data, sizeof part);
  return part;
}

struct Target {
  int capability = 0;
  bool exact = false;
};

Target target_of(std::string_view text) {
  constexpr std::string_view kWord = ".target sm_";
  size_t at = text.find(kWord);
  if (at == text.npos) {
    throw std::runtime_error("expected PTX as text, got none with a .target: build it with nvcc's --no-compress");
  }
  Target target;
  for (at += kWord.size(); at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])); ++at) {
    target.capability = target.capability * 10 + (text[at] - '0');
  }
  target.exact = at < text.size() && std::isalpha(static_cast<unsigned char>(text[at]));
  return target;
}

}  // namespace

std::string_view find_ptx(const void* wrapper, int capability) {
  const auto wrapped = read<Wrapper>(static_cast<const char*>(wrapper));
  if (wrapped.magic != kWrapper) throw std::runtime_error("expected a fat binary of nvcc, got another wrapper");
  const auto header = read<Header>(wrapped.data);
  if (header.magic != kBinary) throw std::runtime_error("expected a fat binary of nvcc, got another header");
  std::string_view best;
  Target found;
  const char* at = wrapped.data + header.header_bytes;
  for (const char* end = at + header.bytes; at < end;) {
    const auto entry = read<Entry>(at);
    const char* text = at + entry.header_bytes;
    at = text + entry.bytes;
    if (entry.kind != kPtx) continue;
    const std::string_view ptx(text, strnlen(text, entry.bytes));
    const Target target = target_of(ptx);
    if (target.exact ? target.capability != capability : target.capability > capability) continue;
    // What is for one architecture alone comes before what is for it and later ones.
    if (target.capability < found.capability || (target.capability == found.capability && found.exact)) continue;
    best = ptx;
    found = target;
  }
  return best;
}

}  // namespace ptx_machine
