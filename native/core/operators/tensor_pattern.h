// What shape and dtype a tensor of an operator has, and the check that the tensors of a call go together: all that
// keeps an operator within their memory.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace moe {

// A shape and a dtype as text, which is read at compile time:
//   [T, H] float, [N, 2] V, [] f32
// A letter stands for one size throughout an operator; `[E+1]` and `[T*k]` are made from letters of tensors before.
// `[...]` is any shape. Dtypes are f32, i32 and u8; `float` is f32, f16 or bf16, `number` f32 or i32, `any` all of
// these; D is a float dtype and V a number's, the same throughout an operator.
struct TensorPattern {
  // factor * letter + plus; without a letter just plus.
  struct Size {
    char letter = 0;
    char factor = 0;
    int plus = 0;
  };
  static constexpr int kAnyRank = -1;

  const char* text;
  Size sizes[kMaxRank] = {};
  int rank = 0;
  unsigned dtypes = 0;  // a bit for each that it may have
  char shared = 0;      // D or V

  // NOLINTNEXTLINE(google-explicit-constructor): descriptions give the text alone.
  consteval TensorPattern(const char* pattern) : text(pattern) {
    const char* at = pattern;
    expect(*at++ == '[');
    if (at[0] == '.' && at[1] == '.' && at[2] == '.') {
      at += 3;
      rank = kAnyRank;
    }
    while (*at != ']') {
      expect(rank >= 0 && rank < kMaxRank);
      at = read_size(at, sizes[rank++]);
      if (at[0] == ',') at += 2;
    }
    expect(at[1] == ' ');
    read_dtype(at + 2);
  }

 private:
  // Not a constant expression if it fails, and so an error of the compiler.
  static consteval void expect(bool valid) {
    if (!valid) throw "a tensor pattern such as [T, H] float";
  }
  static consteval bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
  static consteval bool is_digit(char c) { return c >= '0' && c <= '9'; }

  static consteval const char* read_size(const char* at, Size& size) {
    if (is_digit(*at)) {
      size.plus = *at - '0';
      return at + 1;
    }
    expect(is_letter(*at));
    size.letter = *at++;
    if (*at == '*') {
      expect(is_letter(at[1]));
      size.factor = at[1];
      return at + 2;
    }
    if (*at != '+') return at;
    expect(is_digit(at[1]));
    size.plus = at[1] - '0';
    return at + 2;
  }

  static consteval bool equal(const char* a, const char* b) {
    for (; *a != 0 && *a == *b; ++a) ++b;
    return *a == *b;
  }
  static consteval unsigned bit(DType dtype) { return 1u << static_cast<int>(dtype); }

  consteval void read_dtype(const char* name) {
    const unsigned floats = bit(DType::f32) | bit(DType::f16) | bit(DType::bf16);
    const unsigned numbers = bit(DType::f32) | bit(DType::i32);
    if (equal(name, "D") || equal(name, "V")) shared = *name;
    if (equal(name, "float") || equal(name, "D")) dtypes = floats;
    if (equal(name, "number") || equal(name, "V")) dtypes = numbers;
    if (equal(name, "any")) dtypes = (1u << kDTypeCount) - 1u;
    for (int i = 0; i < kDTypeCount; ++i) {
      if (equal(name, kDTypes[i].name)) dtypes = 1u << i;
    }
    expect(dtypes != 0);
  }
};

// What the letters stand for, by the tensors that were looked at.
class TensorMatch {
 public:
  bool fits(const TensorPattern& pattern, const TensorView& tensor);
  void set(char letter, int64_t size) { sizes_[index(letter)] = size + 1; }

 private:
  static int index(char letter) { return letter >= 'a' ? 26 + letter - 'a' : letter - 'A'; }
  bool fits(const TensorPattern::Size& expected, int64_t size);

  int64_t sizes_[52] = {};  // one more than the size; 0: not known
  int dtypes_[2] = {-1, -1};
};

inline bool TensorMatch::fits(const TensorPattern::Size& expected, int64_t size) {
  if (expected.letter == 0) return size == expected.plus;
  int64_t& known = sizes_[index(expected.letter)];
  if (expected.factor != 0) return size == (known - 1) * (sizes_[index(expected.factor)] - 1);
  if (known == 0) known = size - expected.plus + 1;
  return known > 0 && size == known - 1 + expected.plus;
}

inline bool TensorMatch::fits(const TensorPattern& pattern, const TensorView& tensor) {
  const int dtype = static_cast<int>(tensor.dtype);
  if ((pattern.dtypes >> dtype & 1u) == 0) return false;
  if (pattern.shared != 0) {
    int& known = dtypes_[pattern.shared == 'D' ? 0 : 1];
    if (known < 0) known = dtype;
    if (known != dtype) return false;
  }
  if (pattern.rank == TensorPattern::kAnyRank) return true;
  if (pattern.rank != tensor.rank) return false;
  for (int i = 0; i < tensor.rank; ++i) {
    if (!fits(pattern.sizes[i], tensor.shape[i])) return false;
  }
  return true;
}

}  // namespace moe
