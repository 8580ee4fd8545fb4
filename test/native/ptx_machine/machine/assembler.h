// Makes instructions of a kernel from their names and operands.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "program.h"

namespace ptx_machine {

// The types of PTX that instructions here have.
enum class Type { pred, b8, b16, b32, b64, u8, u16, u32, u64, s8, s16, s32, s64, f16, bf16, f32, f64, f16x2, bf16x2 };

// A register or a constant, such as the address of a variable.
struct Operand {
  enum class Kind { reg, constant, special, ignored } kind = Kind::ignored;
  uint32_t place = 0;   // of a register
  unsigned bits = 0;    // of a register; 1 for a predicate
  uint64_t value = 0;   // of a constant
  bool negated = false; // a predicate
};

// An instruction as the text has it.
struct Statement {
  std::string text;
  // "add", "rn", "f32".
  std::vector<std::string> name;
  // Each is one operand or the several between braces; addresses are a register and an offset.
  struct Argument {
    std::vector<std::string> parts;
    bool is_vector = false, is_address = false;
  };
  std::vector<Argument> arguments;
};

class Assembler {
 public:
  explicit Assembler(Program& program) : program_(program) {}

  uint32_t add_register(const std::string& name, unsigned bits);
  // A parameter or a variable in shared memory, whose name stands for its address there.
  void add_variable(const std::string& name, size_t address) { variables_[name] = address; }
  void begin_scope() { scopes_.emplace_back(); }
  void end_scope() { scopes_.pop_back(); }

  // The instruction that a statement says, but for its guard and target.
  Instruction assemble(const Statement& statement);

  Operand operand(const std::string& text, unsigned bits);
  // The place of an operand's values; of a constant, those of a register of `bits`.
  uint32_t place(const std::string& text, unsigned bits);
  uint32_t constant(unsigned bits, uint64_t value);

 private:
  Program& program_;
  std::vector<std::map<std::string, Operand>> scopes_{1};
  std::map<std::string, size_t> variables_;
  std::map<std::pair<unsigned, uint64_t>, uint32_t> constants_;
  std::map<std::string, uint32_t> specials_;
};

// What an instruction's name says after its first word, as it is taken.
class Words {
 public:
  explicit Words(const Statement& statement) : statement_(statement), left_(statement.name.begin() + 1, statement.name.end()) {}

  // Whether it says this; it is taken then.
  bool take(std::string_view word);
  // The one of these that it says.
  std::string take_one(std::initializer_list<std::string_view> words);
  // The last word, a type.
  Type take_type();
  // Those that only say how memory is cached or ordered.
  void skip_memory_words();
  // Throws if something is left.
  void end() const;
  [[noreturn]] void unknown() const;

 private:
  const Statement& statement_;
  std::vector<std::string> left_;
};

unsigned bits_of(Type type);
bool is_signed(Type type);

// Builds one instruction: its step and operands.
struct Building {
  Assembler& assembler;
  const Statement& statement;
  Words words;
  Instruction instruction{};
  std::vector<uint32_t> operands{};

  const Statement::Argument& argument(size_t index) const;
  size_t count() const { return statement.arguments.size(); }
  // Adds an argument's values, of `bits` if it is a constant.
  void add(size_t index, unsigned bits);
  // Adds all parts of a vector.
  void add_parts(size_t index, unsigned bits);
  // A register that is written or read, with the bits that it has.
  Operand reg(const std::string& name) { return assembler.operand(name, 0); }
  // An address: its register, which has 32 or 64 bits, is added, and its offset is the instruction's immediate.
  unsigned add_address(size_t index);
};

using Builder = void (*)(Building&);
// The builders of each file, by the first word of their instructions.
void add_arithmetic(std::map<std::string, Builder>& builders);
void add_logic(std::map<std::string, Builder>& builders);
void add_conversions(std::map<std::string, Builder>& builders);
void add_memory(std::map<std::string, Builder>& builders);
void add_lanes(std::map<std::string, Builder>& builders);
void add_products(std::map<std::string, Builder>& builders);
void add_control(std::map<std::string, Builder>& builders);

}  // namespace ptx_machine
