// Reads a kernel from the text of a module.
#include <algorithm>
#include <stdexcept>

#include "assembler.h"
#include "machine.h"

namespace ptx_machine {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return std::string(text);
}

std::string without_comments(std::string_view text) {
  if (text.find('/') == std::string_view::npos) return std::string(text);
  std::string plain;
  for (size_t i = 0; i < text.size();) {
    if (text.substr(i, 2) == "//") {
      while (i < text.size() && text[i] != '\n') ++i;
    } else if (text.substr(i, 2) == "/*") {
      i = std::min(text.find("*/", i), text.size() - 2) + 2;
    } else {
      plain += text[i++];
    }
  }
  return plain;
}

// Splits at a character outside brackets. Empty parts are left out.
std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == at && depth == 0)) {
      if (std::string part = trim(text.substr(begin, i - begin)); !part.empty()) parts.push_back(std::move(part));
      begin = i + 1;
    } else if (text[i] == '{' || text[i] == '[' || text[i] == '(') {
      ++depth;
    } else if (text[i] == '}' || text[i] == ']' || text[i] == ')') {
      --depth;
    }
  }
  return parts;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (size_t i = 0; i < text.size();) {
    while (i < text.size() && is_space(text[i])) ++i;
    const size_t begin = i;
    while (i < text.size() && !is_space(text[i])) ++i;
    if (i > begin) words.emplace_back(text.substr(begin, i - begin));
  }
  return words;
}

// A parameter or a variable: ".align 8 .b8 name[88]", ".u32 name".
struct Variable {
  std::string name;
  size_t align = 1, bytes = 0;
};

size_t bytes_of_type(std::string_view type) {
  const size_t digits = type.find_first_of("0123456789");
  if (digits == std::string_view::npos) throw std::runtime_error("expected a type, got " + std::string(type));
  return std::stoul(std::string(type.substr(digits))) / 8;
}

Variable read_variable(const std::string& text) {
  Variable variable;
  size_t element = 0;
  const std::vector<std::string> words = words_of(text);
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == ".align") {
      variable.align = std::stoul(words[++i]);
    } else if (words[i][0] != '.') {
      variable.name = words[i];
    } else if (words[i] != ".param" && words[i] != ".shared" && words[i] != ".local" && words[i] != ".global" &&
               words[i] != ".extern" && words[i] != ".visible") {
      element = bytes_of_type(words[i]);
    }
  }
  const size_t bracket = variable.name.find('[');
  size_t count = 1;
  if (bracket != std::string::npos) {
    count = variable.name[bracket + 1] == ']' ? 0 : std::stoul(variable.name.substr(bracket + 1));
    variable.name.resize(bracket);
  }
  variable.align = std::max(variable.align, element);
  variable.bytes = element * count;
  return variable;
}

size_t round_up(size_t value, size_t to) { return (value + to - 1) / to * to; }

Statement::Argument read_argument(const std::string& text) {
  Statement::Argument argument;
  if (text[0] == '{') {
    argument.is_vector = true;
    argument.parts = split(std::string_view(text).substr(1, text.size() - 2), ',');
  } else if (text[0] == '[') {
    argument.is_address = true;
    argument.parts = split(std::string_view(text).substr(1, text.size() - 2), '+');
  } else if (const size_t bar = text.find('|'); bar != std::string::npos) {
    argument.parts = {trim(text.substr(0, bar)), trim(text.substr(bar + 1))};
  } else {
    argument.parts = {text};
  }
  return argument;
}

Statement read_statement(const std::string& text) {
  Statement statement;
  const size_t end = std::find_if(text.begin(), text.end(), is_space) - text.begin();
  size_t begin = 0;
  while (begin <= end) {
    const size_t dot = std::min(text.find('.', begin), end);
    statement.name.push_back(text.substr(begin, dot - begin));
    begin = dot + 1;
  }
  for (const std::string& argument : split(std::string_view(text).substr(end), ',')) {
    statement.arguments.push_back(read_argument(argument));
  }
  return statement;
}

// The text between the bracket at `begin` and the one that closes it.
std::string_view between(std::string_view text, size_t begin, char open, char close) {
  int depth = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    if (text[i] == open) ++depth;
    if (text[i] == close && --depth == 0) return text.substr(begin + 1, i - begin - 1);
  }
  throw std::runtime_error("a bracket is not closed");
}

class Reader {
 public:
  explicit Reader(Kernel& kernel) : kernel_(kernel), program_(std::make_shared<Program>()), assembler_(*program_) {}

  void read_parameters(std::string_view text) {
    for (const std::string& each : split(text, ',')) {
      const Variable variable = read_variable(each);
      const size_t offset = round_up(kernel_.parameter_bytes, variable.align);
      assembler_.add_variable(variable.name, offset);
      kernel_.parameters.push_back({offset, variable.bytes});
      kernel_.parameter_bytes = offset + variable.bytes;
    }
  }

  // The module's tables of bytes in global memory that the body names: ".global .align 4 .b8 name[24] = {65, 144,
  // ...}".
  void place_tables(std::string_view module, std::string_view body) {
    for (size_t at = module.find("\n.global"); at != std::string_view::npos; at = module.find("\n.global", at + 1)) {
      const std::string text = trim(module.substr(at, module.find(';', at) - at));
      const size_t equals = text.find('=');
      const Variable variable = read_variable(trim(text.substr(0, equals)));
      if (body.find(variable.name) == std::string_view::npos) continue;
      if (equals == std::string::npos) throw std::runtime_error("a variable in global memory has no values: " + text);
      const size_t open = text.find('{', equals);
      const std::vector<std::string> values = split(between(text, open, '{', '}'), ',');
      if (values.size() != variable.bytes) throw std::runtime_error("expected a table of bytes, got " + text);
      std::vector<uint64_t>& table = program_->tables.emplace_back((values.size() + 7) / 8);
      auto* bytes = reinterpret_cast<uint8_t*>(table.data());
      for (const std::string& value : values) *bytes++ = static_cast<uint8_t>(std::stoul(value));
      assembler_.add_variable(variable.name, reinterpret_cast<size_t>(table.data()));
    }
  }

  // The variables in shared memory that the body names, its own and the module's. Those without a size are dynamic.
  void place_shared(std::string_view module, std::string_view body) {
    size_t end = kSharedBegin;
    std::vector<Variable> dynamic;
    for (size_t at = module.find(".shared"); at != std::string_view::npos; at = module.find(".shared", at + 1)) {
      if (at > 0 && !is_space(module[at - 1])) continue;  // of an instruction's name
      const Variable variable = read_variable(trim(module.substr(at, module.find(';', at) - at)));
      if (body.find(variable.name) == std::string_view::npos) continue;
      if (variable.bytes == 0) {
        dynamic.push_back(variable);
        continue;
      }
      end = round_up(end, variable.align);
      assembler_.add_variable(variable.name, end);
      end += variable.bytes;
    }
    kernel_.static_shared_bytes = end - kSharedBegin;
    size_t align = 16;
    for (const Variable& variable : dynamic) align = std::max(align, variable.align);
    end = round_up(end, align);
    for (const Variable& variable : dynamic) assembler_.add_variable(variable.name, end);
    program_->dynamic_shared = static_cast<uint32_t>(end);
  }

  void read_body(std::string_view body) {
    size_t begin = 0;
    for (size_t i = 0; i < body.size(); ++i) {
      const std::string_view before = body.substr(begin, i - begin);
      if (body[i] == ';') {
        read(trim(before));
        begin = i + 1;
      } else if (body[i] == ':' && body[i + 1] != ':' && is_label(trim(before))) {
        labels_[trim(before)] = static_cast<uint32_t>(program_->instructions.size());
        begin = i + 1;
      } else if (body[i] == '{' && trim(before).empty()) {
        assembler_.begin_scope();
        begin = i + 1;
      } else if (body[i] == '}' && trim(before).empty()) {
        assembler_.end_scope();
        begin = i + 1;
      }
    }
    for (const auto& [index, label] : jumps_) {
      const auto found = labels_.find(label);
      if (found == labels_.end()) throw std::runtime_error("unknown label " + label);
      program_->instructions[index].target = found->second;
    }
  }

  // Threads leave at the end, even without a ret there.
  void finish() {
    program_->lines.emplace_back("the end");
    program_->instructions.emplace_back().flow = Flow::leave;
    kernel_.program = program_;
  }

 private:
  static bool is_label(const std::string& text) {
    return !text.empty() && text.find_first_of(" \t\n,[]{}\":") == std::string::npos && text[0] != '.';
  }

  void read(const std::string& text) {
    if (text.empty() || text.starts_with(".pragma") || text.starts_with(".shared") || text.starts_with(".loc ")) return;
    if (text.starts_with(".reg")) return declare(text);
    if (text.starts_with(".local")) return add_local(text);
    try {
      add(text);
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(std::string(error.what()) + ": " + text + ", of " + kernel_.name);
    }
  }

  // ".reg .b32 %r<12>", ".reg .pred ignore".
  void declare(const std::string& text) {
    const std::vector<std::string> words = words_of(text);
    const unsigned bits = words[1] == ".pred" ? 1 : static_cast<unsigned>(8 * bytes_of_type(words[1]));
    std::string names = text.substr(text.find(words[1]) + words[1].size());
    for (const std::string& name : split(names, ',')) {
      const size_t count = name.find('<');
      if (count == std::string::npos) {
        assembler_.add_register(name, bits);
        continue;
      }
      const unsigned long registers = std::stoul(name.substr(count + 1));
      for (unsigned long i = 0; i < registers; ++i) {
        assembler_.add_register(name.substr(0, count) + std::to_string(i), bits);
      }
    }
  }

  void add_local(const std::string& text) {
    const Variable variable = read_variable(text);
    const size_t offset = round_up(program_->local_bytes, variable.align);
    assembler_.add_variable(variable.name, offset);
    program_->local_bytes = offset + round_up(variable.bytes, 8);
  }

  void add(const std::string& text) {
    std::string rest = text, guard;
    if (rest[0] == '@') {
      const size_t end = rest.find_first_of(" \t");
      guard = rest.substr(1, end - 1);
      rest = trim(std::string_view(rest).substr(end));
    }
    const Statement statement = read_statement(rest);
    Instruction made;
    if (statement.name[0] == "bra") {
      if (statement.name.size() > 2 || (statement.name.size() == 2 && statement.name[1] != "uni")) Words::unknown();
      made.flow = Flow::branch;
      jumps_.emplace_back(program_->instructions.size(), statement.arguments.at(0).parts.at(0));
    } else {
      made = assembler_.assemble(statement);
    }
    if (!guard.empty()) {
      const Operand predicate = assembler_.operand(guard, 1);
      if (predicate.bits != 1) throw std::runtime_error("the guard is not a predicate");
      made.guard = predicate.place;
      made.guard_negated = predicate.negated;
    }
    program_->lines.push_back(text.substr(0, 200));
    program_->instructions.push_back(made);
  }

  Kernel& kernel_;
  std::shared_ptr<Program> program_;
  Assembler assembler_;
  std::map<std::string, uint32_t> labels_;
  std::vector<std::pair<size_t, std::string>> jumps_;
};

// Where a kernel of this name begins.
size_t find_entry(std::string_view module, const std::string& name) {
  for (size_t at = module.find(name); at != std::string_view::npos; at = module.find(name, at + 1)) {
    const std::string before = trim(module.substr(at < 80 ? 0 : at - 80, std::min<size_t>(at, 80)));
    const std::string_view after = module.substr(at + name.size());
    if (before.ends_with(".entry") && !after.empty() && (after[0] == '(' || is_space(after[0]))) return at;
  }
  throw std::runtime_error("the module has no kernel " + name);
}

}  // namespace

Kernel read_kernel(std::string_view text, const std::string& name) {
  const std::string module = without_comments(text);
  const size_t at = find_entry(module, name);
  const size_t open = module.find_first_not_of(" \t\n", at + name.size());
  size_t body_at = module.find('{', at);
  Kernel kernel;
  kernel.name = name;
  Reader reader(kernel);
  if (module[open] == '(') {
    const std::string_view parameters = between(module, open, '(', ')');
    reader.read_parameters(parameters);
    body_at = module.find('{', open + parameters.size());
  }
  const std::string_view directives = std::string_view(module).substr(at, body_at - at);
  if (const size_t most = directives.find(".maxntid"); most != std::string_view::npos) {
    unsigned threads = 1;
    const size_t end = directives.find_first_of("\n.", most + 1);
    for (const std::string& each : split(directives.substr(most + 8, end - most - 8), ',')) {
      threads *= static_cast<unsigned>(std::stoul(each));
    }
    kernel.most_threads = threads;
  }
  const std::string_view body = between(module, body_at, '{', '}');
  reader.place_tables(module, body);
  reader.place_shared(module, body);
  reader.read_body(body);
  reader.finish();
  return kernel;
}

}  // namespace ptx_machine
