// The codes of GGUF's blocks as weight formats have them. lib/checkpoint/gguf/blocks has the same in TypeScript, and
// says what the blocks are.
#pragma once

#include <cstdint>
#include <string_view>

namespace moe {

// How the codes of one type's blocks are read.
struct GgufCodes {
  const char* name;
  int elements, bytes;  // of a block
  int bits;             // of a code, or of a unit of a grid
  // The codes of a block, one a byte; or its units, see GridCodes.
  void (*read)(const uint8_t* block, uint8_t* codes) = nullptr;
  void (*read_units)(const uint8_t* block, uint32_t* units) = nullptr;

  int64_t code_bytes() const { return static_cast<int64_t>(read == nullptr ? elements / 8 : elements) * bits / 8; }
  // Converts the codes of `blocks` blocks.
  void convert(const uint8_t* from, int64_t blocks, uint8_t* to) const;
};

// Those of the type of this name, or null.
const GgufCodes* find_gguf_codes(std::string_view type);

}  // namespace moe
