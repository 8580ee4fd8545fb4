// Turns the statements of a kernel into instructions.
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "program.h"

namespace ptx_machine {

// The types that the names of instructions end with.
enum class Type { pred, b8, b16, b32, b64, u8, u16, u32, u64, s8, s16, s32, s64, f16, bf16, f32, f64, f16x2, bf16x2 };

// A register or a constant, such as the address of a variable.
struct Operand {
  enum class Kind { reg, constant, ignored } kind = Kind::ignored;
  uint32_t place = 0;    // of a register
  unsigned bits = 0;     // of a register; 1 for a predicate
  uint64_t value = 0;    // of a constant
  bool negated = false;  // of a predicate
};

// A statement of the text.
struct Statement {
  // Its name, split at the dots: "add", "rn", "f32".
  std::vector<std::string> name;
  // One operand, or several in braces. An address has a register and perhaps an offset.
  struct Argument {
    std::vector<std::string> parts;
    bool is_vector = false, is_address = false;
  };
  std::vector<Argument> arguments;
};

class Assembler {
 public:
  explicit Assembler(Program& program) : program_(program) {}

  void add_register(const std::string& name, unsigned bits);
  // A parameter or a variable, whose name stands for its address.
  void add_variable(const std::string& name, size_t address) { variables_[name] = address; }
  void begin_scope() { scopes_.emplace_back(); }
  void end_scope() { scopes_.pop_back(); }

  // The instruction of a statement, without its guard and target.
  Instruction assemble(const Statement& statement);

  Operand operand(const std::string& text, unsigned bits);
  // The place of an operand of this many bits; 0: of as many as the register has.
  uint32_t place(const Operand& operand, unsigned bits);
  uint32_t place(const std::string& text, unsigned bits) { return place(operand(text, bits), bits); }
  uint32_t constant(unsigned bits, uint64_t value);
  Program& program() { return program_; }

 private:
  uint32_t reserve(unsigned bits);
  Operand special(const std::string& name);

  Program& program_;
  std::vector<std::map<std::string, Operand>> scopes_{1};
  std::map<std::string, size_t> variables_;
  std::map<std::pair<unsigned, uint64_t>, uint32_t> constants_;
  std::map<std::string, uint32_t> specials_;
};

// The words of an instruction's name after the first one. Builders take those that they know, in any order.
class Words {
 public:
  explicit Words(const Statement& statement) : left_(statement.name.begin() + 1, statement.name.end()) {}

  // Whether the word was there.
  bool take(std::string_view word);
  // Throws if one of these is not there.
  void expect(std::initializer_list<std::string_view> words);
  // The one of these that is there.
  std::string take_one(std::initializer_list<std::string_view> words);
  // What the one of these that is there stands for.
  template <class Value>
  std::optional<Value> take_value(std::initializer_list<std::pair<std::string_view, Value>> words) {
    for (const auto& [word, value] : words) {
      if (take(word)) return value;
    }
    return {};
  }
  template <class Value>
  Value expect_value(std::initializer_list<std::pair<std::string_view, Value>> words) {
    if (const std::optional<Value> value = take_value(words)) return *value;
    unknown();
  }
  // The last word, a type.
  Type take_type();
  // Words about caches and the order of accesses, which are all the same here.
  void skip_memory_words();
  // Throws if there are words that no builder took.
  void end() const;
  [[noreturn]] static void unknown();

 private:
  std::vector<std::string> left_;
};

unsigned bits_of(Type type);
bool is_signed(Type type);

// An instruction that is being built.
struct Building {
  Assembler& assembler;
  const Statement& statement;
  Words words;
  Instruction instruction{};
  std::vector<uint32_t> operands{};
  size_t used = 0;  // arguments that a builder has looked at

  size_t count() const { return statement.arguments.size(); }
  const Statement::Argument& argument(size_t index);
  // An argument that is a single operand.
  const std::string& text(size_t index);
  // Adds an argument of this many bits.
  void add(size_t index, unsigned bits);
  // Adds all parts of a vector.
  void add_parts(size_t index, unsigned bits);
  // Adds a predicate or a constant in its place. Returns whether it is negated.
  bool add_predicate(size_t index);
  // Adds the register of an address. Its width and the offset go to the instruction.
  void add_address(size_t index);
  // A number that the text itself must have.
  uint64_t number(size_t index);
  // The argument that says which lanes do this together.
  void take_members(size_t index);
  template <class Details>
  void set_details(const Details& details) {
    auto kept = std::make_shared<const Details>(details);
    instruction.details = kept.get();
    assembler.program().details.push_back(std::move(kept));
  }
};

using Builder = void (*)(Building&);
using Builders = std::map<std::string, Builder>;
// Each file adds its builders, by the first word of their instructions.
void add_arithmetic(Builders& builders);
void add_atomics(Builders& builders);
void add_bits(Builders& builders);
void add_comparisons(Builders& builders);
void add_conversions(Builders& builders);
void add_copies(Builders& builders);
void add_exchanges(Builders& builders);
void add_functions(Builders& builders);
void add_loads(Builders& builders);
void add_matrices(Builders& builders);
void add_moves(Builders& builders);
void add_products(Builders& builders);
void add_waits(Builders& builders);
void add_warpgroup_products(Builders& builders);

}  // namespace ptx_machine
