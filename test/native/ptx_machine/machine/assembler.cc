#include "assembler.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>

namespace ptx_machine {
namespace {

const std::map<std::string, Type, std::less<>> kTypes = {
    {"pred", Type::pred}, {"b8", Type::b8},   {"b16", Type::b16},     {"b32", Type::b32},      {"b64", Type::b64},
    {"u8", Type::u8},     {"u16", Type::u16}, {"u32", Type::u32},     {"u64", Type::u64},      {"s8", Type::s8},
    {"s16", Type::s16},   {"s32", Type::s32}, {"s64", Type::s64},     {"f16", Type::f16},      {"bf16", Type::bf16},
    {"f32", Type::f32},   {"f64", Type::f64}, {"f16x2", Type::f16x2}, {"bf16x2", Type::bf16x2}};

// By their names without "%" and axis.
const std::map<std::string, Special, std::less<>> kSpecials = {{"tid", Special::thread},
                                                               {"ntid", Special::threads},
                                                               {"ctaid", Special::block},
                                                               {"nctaid", Special::blocks},
                                                               {"laneid", Special::lane},
                                                               {"warpid", Special::warp},
                                                               {"lanemask_lt", Special::lanes_below}};

bool is_number(const std::string& text) {
  const size_t first = text[0] == '-' ? 1 : 0;
  return first < text.size() && text[first] >= '0' && text[first] <= '9';
}

// An integer, decimal or hexadecimal, or the bits of a float: 0f3F800000, 0d3FF0000000000000.
uint64_t read_number(const std::string& text, unsigned bits) {
  const bool negative = text[0] == '-';
  std::string_view digits = std::string_view(text).substr(negative ? 1 : 0);
  int base = 10;
  if (digits.size() > 2 && digits[0] == '0' && std::string_view("xXfFdD").find(digits[1]) != std::string_view::npos) {
    base = 16;
    if ((digits[1] == 'f' || digits[1] == 'F') && bits != 32) throw std::runtime_error("a number of 32 bits: " + text);
    if ((digits[1] == 'd' || digits[1] == 'D') && bits != 64) throw std::runtime_error("a number of 64 bits: " + text);
    digits.remove_prefix(2);
  }
  if (!digits.empty() && digits.back() == 'U') digits.remove_suffix(1);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc{} || end != digits.data() + digits.size())
    throw std::runtime_error("expected a number, got " + text);
  return negative ? -value : value;
}

Builders all_builders() {
  Builders builders;
  for (const auto add :
       {add_arithmetic, add_atomics, add_bits, add_comparisons, add_conversions, add_copies, add_exchanges,
        add_functions, add_loads, add_matrices, add_moves, add_products, add_waits, add_warpgroup_products}) {
    add(builders);
  }
  return builders;
}

}  // namespace

unsigned bits_of(Type type) {
  switch (type) {
    case Type::pred: return 1;
    case Type::b8:
    case Type::u8:
    case Type::s8: return 8;
    case Type::b16:
    case Type::u16:
    case Type::s16:
    case Type::f16:
    case Type::bf16: return 16;
    case Type::b64:
    case Type::u64:
    case Type::s64:
    case Type::f64: return 64;
    default: return 32;
  }
}

bool is_signed(Type type) { return type == Type::s8 || type == Type::s16 || type == Type::s32 || type == Type::s64; }

// At least a cache line, so that registers do not share one.
uint32_t Assembler::reserve(unsigned bits) {
  const uint32_t place = program_.register_bytes;
  program_.register_bytes += std::max(64u, bits / 8 * kLanes);
  return place;
}

void Assembler::add_register(const std::string& name, unsigned bits) {
  scopes_.back()[name] = {.kind = Operand::Kind::reg, .place = reserve(bits), .bits = bits};
}

uint32_t Assembler::constant(unsigned bits, uint64_t value) {
  if (bits > 1 && bits < 64) value &= (uint64_t{1} << bits) - 1;
  uint32_t& place = constants_[{bits, value}];
  if (place == 0) {
    place = reserve(bits);
    program_.constants.push_back({place, bits, value});
  }
  return place;
}

// "%tid.x", "%laneid".
Operand Assembler::special(const std::string& name) {
  const size_t dot = std::min(name.find('.'), name.size());
  const auto found = kSpecials.find(name.substr(1, dot - 1));
  size_t axis = 0;
  if (dot < name.size()) axis = std::string_view("xyz").find(std::string_view(name).substr(dot + 1));
  if (found == kSpecials.end() || axis == std::string_view::npos) throw std::runtime_error("unknown register " + name);
  uint32_t& place = specials_[name];
  if (place == 0) {
    place = reserve(32);
    program_.specials.push_back({found->second, axis, place});
  }
  return {.kind = Operand::Kind::reg, .place = place, .bits = 32};
}

Operand Assembler::operand(const std::string& text, unsigned bits) {
  if (text.empty()) throw std::runtime_error("an operand is missing");
  if (text == "_") return {.kind = Operand::Kind::ignored};
  if (text[0] == '!') {
    Operand inner = operand(text.substr(1), bits);
    inner.negated = true;
    return inner;
  }
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (const auto found = scope->find(text); found != scope->end()) return found->second;
  }
  if (is_number(text)) return {.kind = Operand::Kind::constant, .bits = bits, .value = read_number(text, bits)};
  if (const auto found = variables_.find(text); found != variables_.end()) {
    return {.kind = Operand::Kind::constant, .bits = bits, .value = found->second};
  }
  if (text[0] == '%') return special(text);
  throw std::runtime_error("unknown operand " + text);
}

uint32_t Assembler::place(const Operand& operand, unsigned bits) {
  if (operand.kind == Operand::Kind::constant) return constant(bits, operand.value);
  if (operand.kind == Operand::Kind::ignored) throw std::runtime_error("_ stands where an operand is needed");
  if (operand.negated) throw std::runtime_error("only a predicate can be negated");
  if (bits != 0 && operand.bits != bits) {
    throw std::runtime_error("expected " + std::to_string(bits) + " bits, got a register of " +
                             std::to_string(operand.bits));
  }
  return operand.place;
}

Instruction Assembler::assemble(const Statement& statement) {
  static const Builders builders = all_builders();
  const auto found = builders.find(statement.name[0]);
  if (found == builders.end()) Words::unknown();
  Building building{*this, statement, Words(statement)};
  found->second(building);
  building.words.end();
  if (building.used != building.count()) throw std::runtime_error("too many operands");
  Instruction made = building.instruction;
  made.count = static_cast<uint32_t>(building.operands.size());
  auto operands = std::make_unique<uint32_t[]>(building.operands.size());
  std::copy(building.operands.begin(), building.operands.end(), operands.get());
  made.operands = operands.get();
  program_.operands.push_back(std::move(operands));
  return made;
}

bool Words::take(std::string_view word) {
  const auto found = std::find(left_.begin(), left_.end(), word);
  if (found == left_.end()) return false;
  left_.erase(found);
  return true;
}

void Words::expect(std::initializer_list<std::string_view> words) {
  for (std::string_view word : words) {
    if (!take(word)) unknown();
  }
}

std::string Words::take_one(std::initializer_list<std::string_view> words) {
  for (std::string_view word : words) {
    if (take(word)) return std::string(word);
  }
  unknown();
}

Type Words::take_type() {
  if (left_.empty()) unknown();
  const auto found = kTypes.find(left_.back());
  if (found == kTypes.end()) unknown();
  left_.pop_back();
  return found->second;
}

void Words::skip_memory_words() {
  for (std::string_view word : {"volatile", "relaxed", "acquire", "release", "acq_rel", "weak", "gpu", "sys", "cta",
                                "nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "L1::no_allocate", "L1::evict_first"}) {
    take(word);
  }
}

void Words::end() const {
  if (!left_.empty()) unknown();
}

void Words::unknown() { throw std::runtime_error("unknown instruction"); }

const Statement::Argument& Building::argument(size_t index) {
  if (index >= count()) throw std::runtime_error("an operand is missing");
  used = std::max(used, index + 1);
  return statement.arguments[index];
}

const std::string& Building::text(size_t index) {
  const Statement::Argument& given = argument(index);
  if (given.is_vector || given.is_address || given.parts.size() != 1) {
    throw std::runtime_error("expected a single operand");
  }
  return given.parts[0];
}

void Building::add(size_t index, unsigned bits) { operands.push_back(assembler.place(text(index), bits)); }

void Building::add_parts(size_t index, unsigned bits) {
  for (const std::string& part : argument(index).parts) operands.push_back(assembler.place(part, bits));
}

bool Building::add_predicate(size_t index) {
  Operand given = assembler.operand(text(index), 1);
  const bool negated = std::exchange(given.negated, false);
  operands.push_back(assembler.place(given, 1));
  return negated;
}

void Building::add_address(size_t index) {
  const Statement::Argument& given = argument(index);
  if (!given.is_address) throw std::runtime_error("expected an address");
  instruction.immediate = given.parts.size() > 1 ? static_cast<int64_t>(read_number(given.parts[1], 64)) : 0;
  const Operand base = assembler.operand(given.parts[0], 64);
  if (base.bits != 32 && base.bits != 64) throw std::runtime_error("expected an address of 32 or 64 bits");
  instruction.address_bits = static_cast<uint8_t>(base.bits);
  operands.push_back(assembler.place(base, base.bits));
}

uint64_t Building::number(size_t index) {
  const Operand given = assembler.operand(text(index), 64);
  if (given.kind != Operand::Kind::constant) throw std::runtime_error("expected a number");
  return given.value;
}

void Building::take_members(size_t index) {
  instruction.flow = Flow::together;
  instruction.members = assembler.place(text(index), 32);
}

}  // namespace ptx_machine
