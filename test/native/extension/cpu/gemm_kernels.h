// The row for the tests' weight format, for every instruction set. See native/cpu/isa/template/gemm.h.

struct TestU4G16Weight {
  using Value = float;
  static constexpr int step = 16;
  static constexpr int bytes = kTestU4G16ColumnBytes * kPanelColumns;

  template <int rows>
  static void multiply(const Value* x, const char* panel, Sums<rows>& sums) {
    const float* scales = reinterpret_cast<const float*>(panel);
    const uint8_t* zeros = reinterpret_cast<const uint8_t*>(panel) + 4 * kPanelColumns;
    const uint8_t* codes = zeros + kPanelColumns;
    Vector scale[kPanelVectors], zero[kPanelVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      scale[j] = Vector::load(scales + j * kWidth);
      zero[j] = Vector::load(zeros + j * kWidth);
    }
    for (int pair = 0; pair < step / 2; ++pair, codes += kPanelColumns) {
      Vector even[kPanelVectors], odd[kPanelVectors];
#pragma GCC unroll 2
      for (int j = 0; j < kPanelVectors; ++j) {
        Vector::load_nibbles(codes + j * kWidth, even[j], odd[j]);
        even[j] = (even[j] - zero[j]) * scale[j];
        odd[j] = (odd[j] - zero[j]) * scale[j];
      }
      multiply_add<rows>(x + 2 * pair * rows, even, sums);
      multiply_add<rows>(x + (2 * pair + 1) * rows, odd, sums);
    }
  }
};

constexpr std::array kExtensionGemm = {
    gemm_kernel<TestU4G16Weight>({.name = "test_u4_g16",
                                  .tokens = kAllTokens,
                                  .arithmetic = Arithmetic::f32,
                                  .takes = takes_test_u4_g16,
                                  .formats = "test_u4_g16",
                                  .panels = test_u4_g16_panels,
                                  .numbers = "(code - zero point) * scale and tokens as float32, float32 sums"}),
};
