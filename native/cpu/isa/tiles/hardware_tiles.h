// The tile instructions of AMX. Included inside a target region that has them; see ModelTiles for their meaning.

struct HardwareTiles {
  static void configure(const TileConfiguration& shapes) { _tile_loadconfig(&shapes); }
  static void release() { _tile_release(); }
  template <int tile>
  static void zero() {
    _tile_zero(tile);
  }
  // Rows `stride` bytes apart.
  template <int tile>
  static void load(const void* source, int64_t stride) {
    _tile_loadd(tile, source, stride);
  }
  // The same for memory that is not read again soon.
  template <int tile>
  static void stream(const void* source, int64_t stride) {
    _tile_stream_loadd(tile, source, stride);
  }
  template <int tile>
  static void store(void* target, int64_t stride) {
    _tile_stored(tile, target, stride);
  }
  // c += a * b, of pairs of bfloat16.
  template <int c, int a, int b>
  static void multiply_bf16() {
    _tile_dpbf16ps(c, a, b);
  }
  // c += a * b, of groups of four signed bytes.
  template <int c, int a, int b>
  static void multiply_i8() {
    _tile_dpbssd(c, a, b);
  }
};
