// Products of 8-bit integer rows with weights whose scales are integers too, in tile registers. See integers.h here,
// and factor_tiles.h for the sums.

// The columns of a block of k as tiles read them: rows(k) are those of registers; and factors.
template <class Bytes, class Factors>
class PanelFactorColumns : public PanelRows<PlainCodes<Bytes>>, public Factors {
 public:
  PanelFactorColumns(const TileArguments& t, int64_t step) : PanelRows<PlainCodes<Bytes>>(t, step), Factors(t) {}
};
template <class InPanel>
class UnpackedFactorColumns : public UnpackedFactors<InPanel, kRegisterK<ByteElements>> {
 public:
  UnpackedFactorColumns(const TileArguments& t, int64_t)
      : UnpackedFactors<InPanel, kRegisterK<ByteElements>>(t), codes_(t.w) {}
  const char* rows(int64_t k) const { return codes_ + k * kPanelColumns; }

 private:
  const char* codes_;
};

template <class Tiles, class Columns, FactorOffset offset, bool two>
void factor_group_tile(const TileArguments& t) {
  constexpr int64_t register_k = kRegisterK<ByteElements>;
  const GroupSteps<ByteElements> steps(t);
  configure_tiles<Tiles>(steps.shapes()[t.rows]);
  Columns columns(t, steps.k);
  const char* x = static_cast<const char*>(t.x);
  BesideProducts beside(t, steps.count);
  alignas(64) int32_t sums[kMaxTileRows * kPanelColumns], totals[kMaxTileRows * kPanelColumns];
  if (!t.accumulate) std::fill_n(t.c, t.rows * kPanelColumns, 0.0f);
  for (SegmentRuns run(t, t.scales->super_scales.segments); run.next();) {
    std::fill_n(totals, t.rows * kPanelColumns, 0);
    for (int64_t s = run.begin; s < run.end; ++s) {
      zero_sums<Tiles, two>();
      for (int64_t k = s * steps.segment; k < (s + 1) * steps.segment; k += steps.k) {
        beside.step();
        multiply_step<Tiles, true, 1, two>(x + k / register_k * t.rows * kTileRegisterBytes + k % register_k, 0,
                                           columns.rows(k));
      }
      store_sums<Tiles, two>(sums, kWeightStride);
      Words by[kPanelVectors];
      columns.load(s, by);
      for (int64_t i = 0; i < t.rows * kPanelColumns; i += kPanelColumns) {
        const Words row[1][kPanelVectors] = {{Words::load(reinterpret_cast<const char*>(sums + i)),
                                              Words::load(reinterpret_cast<const char*>(sums + i + kWidth))}};
        add_products(row, by, totals + i);
      }
    }
    for (int r = 0; r < t.rows; ++r) {
      const auto* of_row = totals + r * kPanelColumns;
      add_factor_totals<offset, 0, 1>(t, r, columns, of_row, run);
    }
  }
}

template <class Tiles, class Columns, FactorOffset offset>
constexpr TileFunctions factor_group_tiles() {
  return by_rows(factor_group_tile<Tiles, Columns, offset, false>, factor_group_tile<Tiles, Columns, offset, true>);
}

template <class Bytes, class Factors>
void unpack_register_bytes_and_factors(const TileArguments& t, char* target) {
  unpack_block<PlainCodes<Bytes>>(t, target);
  unpack_factors<Factors, kRegisterK<ByteElements>>(t, target);
}

// `Quads` are read by vectors. Registers take unsigned codes as they are, and signed ones.
template <class Tiles, class Products, class Quads, CodeType code, ScaleType type, class Signed = Quads>
constexpr GemmKernel register_factor_kernel(const char* name, const char* formats) {
  constexpr FactorOffset of_few = kFactorOffset<code, Quads::bias>, of_many = kFactorOffset<code, 0>;
  using Bytes = RegisterBytes<Signed, of_many == FactorOffset::minimum ? 0 : Signed::bias>;
  using Few = PanelFactors<type, Products::multiplies_pairs, of_few>;
  using Many = PanelFactors<type, false, of_many>;
  GemmKernel row =
      register_integer_kernel<Tiles, Products, Quads, Signed>(name, takes_factors<code, Quads::bits, type>, formats);
  row.numbers = kFactorNumbers;
  row.tile = factor_group_tiles<Tiles, PanelFactorColumns<Bytes, Many>, of_many>();
  const auto few =
      factor_tiles<Products, Quads, Few, of_few, RegisterRows>(std::make_integer_sequence<int, kVectorRows>());
  for (int rows = 1; rows <= kVectorRows; ++rows) row.tile[rows] = few[rows];
  row.unpacked.unpack = unpack_register_bytes_and_factors<Bytes, Many>;
  row.unpacked.tile = factor_group_tiles<Tiles, UnpackedFactorColumns<Many>, of_many>();
  return row;
}

template <class Tiles, class Products>
constexpr std::array kRegisterFactorGemm = {
    register_factor_kernel<Tiles, Products, FieldQuads<2>, CodeType::unsigned_integer, ScaleType::u4>("q2_k_int8_tiles",
                                                                                                      "q2_k"),
    register_factor_kernel<Tiles, Products, PlaneQuads<3>, CodeType::signed_integer, ScaleType::i8>("q3_k_int8_tiles",
                                                                                                    "q3_k"),
    register_factor_kernel<Tiles, Products, FieldQuads<4>, CodeType::unsigned_integer, ScaleType::u6>("q4_k_int8_tiles",
                                                                                                      "q4_k"),
    register_factor_kernel<Tiles, Products, PlaneQuads<5>, CodeType::unsigned_integer, ScaleType::u6>("q5_k_int8_tiles",
                                                                                                      "q5_k"),
    register_factor_kernel<Tiles, Products, PlaneQuads<6>, CodeType::signed_integer, ScaleType::i8>("q6_k_int8_tiles",
                                                                                                    "q6_k"),
    register_factor_kernel<Tiles, Products, WideTableQuads<Products::signed_bytes>, CodeType::table, ScaleType::i8,
                           WideTableQuads<true>>("iq4_xs_int8_tiles", "iq3, iq4_xs"),
    register_factor_kernel<Tiles, Products, NarrowTableQuads, CodeType::table, ScaleType::i8>("iq2_xs_int8_tiles",
                                                                                              "iq1, iq2"),
};
