// Logic, shifts and fields of bits.
#include "support.h"

namespace ptx_machine::test {
namespace {

template <class T>
std::string bits_of() {
  return std::to_string(8 * sizeof(T));
}

bool bit(uint64_t value, unsigned index) { return (value >> index & 1) != 0; }

template <class T>
void check_logic() {
  const std::string type = ".b" + bits_of<T>();
  const auto [a, b] = pairs(integer_edges<T>(), integer_edges<T>());
  check_lanes<T>(
      "and" + type + " %d, %a, %b;", [](T x, T y) { return static_cast<T>(x & y); }, a, b);
  check_lanes<T>(
      "or" + type + " %d, %a, %b;", [](T x, T y) { return static_cast<T>(x | y); }, a, b);
  check_lanes<T>(
      "xor" + type + " %d, %a, %b;", [](T x, T y) { return static_cast<T>(x ^ y); }, a, b);
  check_lanes<T>(
      "not" + type + " %d, %a;", [](T x) { return static_cast<T>(~x); }, a);
}

// Bit by bit.
template <class T>
T shifted(T value, uint32_t by, bool left, bool fill) {
  constexpr unsigned kBits = 8 * sizeof(T);
  std::make_unsigned_t<T> result = 0;
  for (unsigned i = 0; i < kBits; ++i) {
    const uint64_t from = left ? uint64_t{i} - by : uint64_t{i} + by;
    const bool is_set = from < kBits ? bit(static_cast<uint64_t>(value), static_cast<unsigned>(from)) : fill && !left;
    result = static_cast<decltype(result)>(result | static_cast<decltype(result)>(is_set) << i);
  }
  return static_cast<T>(result);
}

template <class T>
void check_shifts() {
  using U = std::make_unsigned_t<T>;
  const auto [a, by] = pairs(integer_edges<T>(), std::vector<uint32_t>{0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255,
                                                                       256, 0x80000000u, 0xffffffffu});
  const std::string bits = bits_of<T>();
  check_lanes<T>(
      "shl.b" + bits + " %d, %a, %b;", [](T x, uint32_t y) { return shifted(x, y, true, false); }, a, by);
  check_lanes<T>(
      "shr.s" + bits + " %d, %a, %b;", [](T x, uint32_t y) { return shifted(x, y, false, x < 0); }, a, by);
  std::vector<U> u(a.begin(), a.end());
  for (const char* type : {"shr.u", "shr.b"}) {
    check_lanes<U>(
        type + bits + " %d, %a, %b;", [](U x, uint32_t y) { return shifted(x, y, false, false); }, u, by);
  }
}

template <class T>
void check_fields() {
  const std::string type = (std::is_signed_v<T> ? ".s" : ".u") + bits_of<T>();
  constexpr unsigned kBits = 8 * sizeof(T);
  const std::vector<uint32_t> places = {0, 1, 5, 8, 16, 31, 32, 33, 63, 64, 200, 255, 256, 257, 0xffffffffu};
  const auto [from, length] = pairs(places, places);
  for (const T value : integer_edges<T>()) {
    const std::vector<T> a(from.size(), value);
    check_lanes<T>(
        "bfe" + type + " %d, %a, %b, %c;",
        [&](T x, uint32_t f, uint32_t l) {
          const unsigned first = f % 256, count = l % 256;
          std::make_unsigned_t<T> result = 0;
          for (unsigned i = 0; i < kBits; ++i) {
            bool is_set = false;
            if (i < count && first + i < kBits) {
              is_set = bit(static_cast<uint64_t>(x), first + i);
            } else if (std::is_signed_v<T> && count > 0) {
              is_set = bit(static_cast<uint64_t>(x), std::min(first + count - 1, kBits - 1));
            }
            result |= static_cast<decltype(result)>(is_set) << i;
          }
          return static_cast<T>(result);
        },
        a, from, length);
  }
}

}  // namespace

MOE_TEST(logic_of_all_widths) {
  check_logic<uint16_t>();
  check_logic<uint32_t>();
  check_logic<uint64_t>();
}

MOE_TEST(logic_of_predicates) {
  const auto [a, b] = pairs(std::vector<uint32_t>{0, 1}, std::vector<uint32_t>{0, 1});
  const auto check = [&, &first = a, &second = b](const std::string& instruction, auto&& expected) {
    check_lanes<uint32_t>(
        ".reg .pred %p, %q, %r; setp.ne.u32 %p, %a, 0; setp.ne.u32 %q, %b, 0; setp.eq.u32 %r, 0, 0; " + instruction +
            " selp.b32 %d, 1, 0, %r;",
        expected, first, second);
  };
  check("and.pred %r, %p, %q;", [](uint32_t x, uint32_t y) { return x & y; });
  check("or.pred %r, %p, %q;", [](uint32_t x, uint32_t y) { return x | y; });
  check("xor.pred %r, %p, %q;", [](uint32_t x, uint32_t y) { return x ^ y; });
  check("not.pred %r, %p;", [](uint32_t x, uint32_t) { return 1 - x; });
  check("mov.pred %r, %q;", [](uint32_t, uint32_t y) { return y; });
  check("mov.pred %r, -1;", [](uint32_t, uint32_t) { return 1u; });
  check("mov.pred %r, 0;", [](uint32_t, uint32_t) { return 0u; });
  // Lanes that do not take part keep theirs.
  check("@%p mov.pred %r, %q;", [](uint32_t x, uint32_t y) { return x ? y : 1; });
  check("@!%p mov.pred %r, %q;", [](uint32_t x, uint32_t y) { return x ? 1 : y; });
}

MOE_TEST(shifts_by_too_many_bits_leave_nothing_or_the_sign) {
  check_shifts<int16_t>();
  check_shifts<int32_t>();
  check_shifts<int64_t>();
}

MOE_TEST(lop3_computes_each_of_its_256_tables) {
  Bits bits(1);
  const auto a = bits.many<uint32_t>(40), b = bits.many<uint32_t>(40), c = bits.many<uint32_t>(40);
  for (unsigned table = 0; table < 256; ++table) {
    check_lanes<uint32_t>(
        "lop3.b32 %d, %a, %b, %c, " + std::to_string(table) + ";",
        [&](uint32_t x, uint32_t y, uint32_t z) {
          uint32_t result = 0;
          for (unsigned i = 0; i < 32; ++i) {
            const unsigned index = 4u * bit(x, i) + 2u * bit(y, i) + bit(z, i);
            result |= static_cast<uint32_t>(bit(table, index)) << i;
          }
          return result;
        },
        a, b, c);
  }
}

MOE_TEST(prmt_chooses_bytes_or_their_signs) {
  Bits bits(2);
  const auto a = bits.many<uint32_t>(3000), b = bits.many<uint32_t>(3000), c = bits.many<uint32_t>(3000);
  check_lanes<uint32_t>(
      "prmt.b32 %d, %a, %b, %c;",
      [](uint32_t x, uint32_t y, uint32_t z) {
        const uint32_t bytes[8] = {x & 255, x >> 8 & 255, x >> 16 & 255, x >> 24,
                                   y & 255, y >> 8 & 255, y >> 16 & 255, y >> 24};
        uint32_t result = 0;
        for (int i = 3; i >= 0; --i) {
          const uint32_t digit = z >> 4 * i & 15, byte = bytes[digit % 8];
          result = result * 256 + (digit < 8 ? byte : byte < 128 ? 0 : 255);
        }
        return result;
      },
      a, b, c);
}

MOE_TEST(bfe_extends_fields_by_their_sign) {
  check_fields<uint32_t>();
  check_fields<int32_t>();
  check_fields<uint64_t>();
  check_fields<int64_t>();
}

template <class T>
static void check_insertion() {
  constexpr unsigned kBits = 8 * sizeof(T);
  const std::vector<uint32_t> places = {0, 1, 5, 8, 16, 31, 32, 33, 63, 64, 200, 255, 256, 257, 0xffffffffu};
  const auto [from, length] = pairs(places, places);
  for (int round = 0; round < 3; ++round) {
    Bits bits(static_cast<uint64_t>(round));
    check_lanes<T>(
        "bfi.b" + std::to_string(kBits) + " %d, %a, %b, %c, %e;",
        [](T x, T y, uint32_t f, uint32_t l) {
          T result = 0;
          for (unsigned i = 0; i < kBits; ++i) {
            const bool is_inside = i >= f % 256 && i < f % 256 + l % 256;
            result |= static_cast<T>(is_inside ? bit(x, i - f % 256) : bit(y, i)) << i;
          }
          return result;
        },
        bits.many<T>(from.size()), bits.many<T>(from.size()), from, length);
  }
}

MOE_TEST(bfi_replaces_a_field) {
  check_insertion<uint32_t>();
  check_insertion<uint64_t>();
}

MOE_TEST(shf_shifts_two_registers_as_one) {
  const auto [a, by] =
      pairs(integer_edges<uint32_t>(), std::vector<uint32_t>{0, 1, 13, 31, 32, 33, 40, 64, 0xffffffffu});
  const std::vector<uint32_t> b = Bits(9).many<uint32_t>(a.size());
  const auto check = [&, &low = a, &shifts = by](const std::string& name, bool left, bool wraps) {
    check_lanes<uint32_t>(
        name + ".b32 %d, %a, %b, %c;",
        [&](uint32_t x, uint32_t y, uint32_t n) {
          const unsigned shift = wraps ? n % 32 : std::min(n, 32u);
          uint32_t result = 0;
          for (unsigned i = 0; i < 32; ++i) {
            // Of 64 bits, the upper half of what is shifted to the left, or the lower half.
            const unsigned from = left ? 32 + i - shift : i + shift;
            result |= static_cast<uint32_t>(from < 32 ? bit(x, from) : bit(y, from - 32)) << i;
          }
          return result;
        },
        low, b, shifts);
  };
  check("shf.l.wrap", true, true);
  check("shf.l.clamp", true, false);
  check("shf.r.wrap", false, true);
  check("shf.r.clamp", false, false);
}

template <class T>
static void check_counts() {
  constexpr unsigned kBits = 8 * sizeof(T);
  using S = std::make_signed_t<T>;
  const std::string bits = std::to_string(kBits);
  const std::vector<T> a = integer_edges<T>();
  check_lanes<uint32_t>(
      "popc.b" + bits + " %d, %a;",
      [](T x) {
        uint32_t count = 0;
        for (unsigned i = 0; i < kBits; ++i) count += bit(x, i);
        return count;
      },
      a);
  check_lanes<uint32_t>(
      "clz.b" + bits + " %d, %a;",
      [](T x) {
        uint32_t count = 0;
        while (count < kBits && !bit(x, kBits - 1 - count)) ++count;
        return count;
      },
      a);
  check_lanes<T>(
      "brev.b" + bits + " %d, %a;",
      [](T x) {
        T result = 0;
        for (unsigned i = 0; i < kBits; ++i) result |= static_cast<T>(bit(x, i)) << (kBits - 1 - i);
        return result;
      },
      a);
  const auto find = [](T x, bool is_signed, bool from_top) {
    const bool sign = is_signed && static_cast<S>(x) < 0;
    for (unsigned i = kBits; i-- > 0;) {
      if (bit(x, i) != sign) return from_top ? kBits - 1 - i : i;
    }
    return ~0u;
  };
  for (const bool from_top : {false, true}) {
    const std::string name = from_top ? "bfind.shiftamt" : "bfind";
    check_lanes<uint32_t>(
        name + ".u" + bits + " %d, %a;", [&](T x) { return find(x, false, from_top); }, a);
    check_lanes<uint32_t>(
        name + ".s" + bits + " %d, %a;", [&](T x) { return find(x, true, from_top); }, a);
  }
}

MOE_TEST(bits_are_counted_found_and_reversed) {
  check_counts<uint32_t>();
  check_counts<uint64_t>();
}

}  // namespace ptx_machine::test
