// What words of bits are kept as. Included inside an instruction set's namespace and target region, after VectorBits.

// Of VectorBits, whose lanes have 64 bits, GCC copies sums of words from register to register in every round of a loop.
struct WordLanes {
  WordLanes() = default;
  WordLanes(VectorBits bits) : lanes(reinterpret_cast<Lanes>(bits)) {}
  operator VectorBits() const { return reinterpret_cast<VectorBits>(lanes); }

  using Lanes = int32_t __attribute__((vector_size(sizeof(VectorBits))));
  Lanes lanes;
};
