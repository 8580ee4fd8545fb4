// The kinds of memory that an address may belong to.
#pragma once

#include "assembler.h"
#include "warp.h"

namespace ptx_machine {

enum class Space { generic, global, shared, local, parameter };

inline bool take_shared(Building& b) { return b.words.take("shared") || b.words.take("shared::cta"); }

inline Space take_space(Building& b) {
  if (b.words.take("global")) return Space::global;
  if (take_shared(b)) return Space::shared;
  if (b.words.take("local")) return Space::local;
  if (b.words.take("param")) return Space::parameter;
  return Space::generic;
}

// A lane's address, from its register and the instruction's offset.
inline uint64_t address(Warp& warp, uint32_t place, const Instruction& in, unsigned lane) {
  const uint64_t base = in.address_bits == 64 ? warp.at<uint64_t>(place)[lane] : warp.at<uint32_t>(place)[lane];
  return base + static_cast<uint64_t>(in.immediate);
}

// The host's address of `bytes` that a kernel may use there.
template <Space kSpace>
std::byte* find(Warp& warp, [[maybe_unused]] unsigned lane, uint64_t address, size_t bytes) {
  if constexpr (kSpace == Space::global) return warp.global(address, bytes);
  if constexpr (kSpace == Space::shared) return warp.shared(address, bytes);
  if constexpr (kSpace == Space::local) return warp.local(lane, address, bytes);
  return warp.generic(address, bytes);
}

// Calls `body` with the space as a template argument. Parameters cannot be written.
template <class Body>
void with_writable(Space space, Body&& body) {
  switch (space) {
    case Space::generic: return body.template operator()<Space::generic>();
    case Space::global: return body.template operator()<Space::global>();
    case Space::shared: return body.template operator()<Space::shared>();
    case Space::local: return body.template operator()<Space::local>();
    case Space::parameter: Words::unknown();
  }
}

}  // namespace ptx_machine
