// Loads and stores.
#include <cstring>
#include <stdexcept>

#include "addresses.h"
#include "lanes.h"

namespace ptx_machine {
namespace {

// The registers first, then the address.
template <Space kSpace, class Element, class Register>
void load(Warp& warp, const Instruction& in, Mask mask) {
  const size_t count = in.count - 1;
  for_lanes(mask, [&](unsigned lane) {
    const uint64_t from = address(warp, in.operands[count], in, lane);
    const std::byte* elements;
    if constexpr (kSpace == Space::parameter) {
      elements = warp.parameter(from, count * sizeof(Element));
    } else {
      elements = find<kSpace>(warp, lane, from, count * sizeof(Element));
    }
    for (size_t i = 0; i < count; ++i) {
      Element value;
      std::memcpy(&value, elements + i * sizeof value, sizeof value);
      warp.at<Register>(in.operands[i])[lane] = static_cast<Register>(value);
    }
  });
}

// The address first, then the registers.
template <Space kSpace, class Element, class Register>
void store(Warp& warp, const Instruction& in, Mask mask) {
  const size_t count = in.count - 1;
  for_lanes(mask, [&](unsigned lane) {
    const uint64_t to = address(warp, in.operands[0], in, lane);
    std::byte* elements = find<kSpace>(warp, lane, to, count * sizeof(Element));
    for (size_t i = 0; i < count; ++i) {
      const auto value = static_cast<Element>(warp.at<Register>(in.operands[1 + i])[lane]);
      std::memcpy(elements + i * sizeof value, &value, sizeof value);
    }
  });
}

// Calls `body` with values of the C++ types of an element in memory and of its register, which may be wider.
template <class Body>
void with_element(Building& b, Type type, unsigned bits, Body&& body) {
  const auto with_register = [&]<class Element>(Element element) {
    if (bits < 8 * sizeof(Element)) throw std::runtime_error("a register is too small");
    if (bits == 16) {
      if constexpr (sizeof(Element) <= 2) return body(element, uint16_t{});
    } else if (bits == 32) {
      if constexpr (sizeof(Element) <= 4) return body(element, uint32_t{});
    } else if (bits == 64) {
      return body(element, uint64_t{});
    }
    b.words.unknown();
  };
  switch (bits_of(type)) {
    case 8: return is_signed(type) ? with_register(int8_t{}) : with_register(uint8_t{});
    case 16: return is_signed(type) ? with_register(int16_t{}) : with_register(uint16_t{});
    case 32: return is_signed(type) ? with_register(int32_t{}) : with_register(uint32_t{});
    case 64: return with_register(uint64_t{});
    default: b.words.unknown();
  }
}

// Adds the registers. Returns their bits.
unsigned add_registers(Building& b, size_t index, Type type) {
  const size_t count = b.words.take("v4") ? 4 : b.words.take("v2") ? 2 : 1;
  const auto& names = b.argument(index).parts;
  if (names.size() != count) throw std::runtime_error("expected as many registers as v2 or v4 says");
  // A constant is as wide as the type.
  const unsigned bits = b.assembler.operand(names[0], std::max(16u, bits_of(type))).bits;
  b.add_parts(index, bits);
  return bits;
}

void build_ld(Building& b) {
  const Type type = b.words.take_type();
  const Space space = take_space(b);
  b.words.skip_memory_words();
  const unsigned bits = add_registers(b, 0, type);
  b.add_address(1);
  with_element(b, type, bits, [&]<class Element, class Register>(Element, Register) {
    if (space == Space::parameter) {
      b.instruction.step = load<Space::parameter, Element, Register>;
    } else {
      with_writable(space, [&]<Space kSpace>() { b.instruction.step = load<kSpace, Element, Register>; });
    }
  });
}

void build_st(Building& b) {
  const Type type = b.words.take_type();
  const Space space = take_space(b);
  b.words.skip_memory_words();
  b.add_address(0);
  const unsigned bits = add_registers(b, 1, type);
  with_element(b, type, bits, [&]<class Element, class Register>(Element, Register) {
    with_writable(space, [&]<Space kSpace>() { b.instruction.step = store<kSpace, Element, Register>; });
  });
}

}  // namespace

void add_loads(Builders& builders) {
  builders["ld"] = build_ld;
  builders["st"] = build_st;
}

}  // namespace ptx_machine
