// The tile instructions of AMX; see ModelTiles for their meaning. Included inside a target region that has them.
// Assembler, because compilers' intrinsics take registers as literals only, not as template parameters.

struct HardwareTiles {
  static void configure(const TileConfiguration& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes)); }
  static void release() { asm volatile("tilerelease"); }
  template <int tile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(tile));
  }
  // Rows `stride` bytes apart.
  template <int tile>
  static void load(const void* source, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(source), "r"(stride), "i"(tile) : "memory");
  }
  // The same for memory that is not read again soon.
  template <int tile>
  static void stream(const void* source, int64_t stride) {
    asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" : : "r"(source), "r"(stride), "i"(tile) : "memory");
  }
  template <int tile>
  static void store(void* target, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(target), "r"(stride), "i"(tile) : "memory");
  }
  // c += a * b, of pairs of bfloat16.
  template <int c, int a, int b>
  static void multiply_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b));
  }
  // c += a * b, of groups of four signed bytes.
  template <int c, int a, int b>
  static void multiply_i8() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b));
  }
};
