// The grids of GGUF's IQ1, IQ2 and IQ3: which points with integer coordinates codes can name, in the order of their
// numbers. Facts of the format, from ggml-common.h; lib/core/formats/grids.ts has the same.
#pragma once

#include <cstdint>

#include "core/formats/weight_format.h"

namespace moe {

// Points as numbers to the base of their coordinates' levels, the first coordinate in the lowest place, which ascend:
// what each is above the one before, as a digit of base64. A digit of 63 continues: the next one is added to it.
inline constexpr char kIQ1Steps[] =
    "ACCCCCDFCECFGCCIFCECFFCECEBGCCCBFGECECECCCBHGCCIFCECFFCECFGGFECCECCDDCCECLCCIGGGEEBPGGGCBBICCICEEBBCBBCC"
    "CCCCCJDCCCCBBCOEMCGCCCDBECGGCELCECFFCECFGEIFCECFFCECFGCEFBGIBDGCEMCCCGFCECFFCECFGGDDFCCCCFFCECKBCEFBGCGE"
    "CECBDMCCFDGCCCCCCCECEGEBBBBBBCCEIICGCQCCIFFCECCCECIGCCIGECFBCBDEFDBBCCCBBCECCGECDBCBBCCBDECECCBBCCCCCCCC"
    "BBFBBBBCBCCBBCCCBBCCBBCBBCBBCCGCBBIBBCCEECBBCCCDBBBDCBCBBGDDCIEMEIGCCCCECCBBCCCGGCKOCCECDHBBCECBBCBBEEID"
    "BCCEECJHHCHCCCCCCEECGGEDKCECFFCCCCFGGDDFCECFFCCCCFGCEGHBEGCCCCBBIFFCGGFCCDFCECFGECGGFCCDFCECFICCGIBBCECC"
    "CGIGCEDDMGGGCECECBDECCKCDBCCCCCCGFCFGGGGFBGFCEIKCECFFCECFGCKFCECKCECIDCEGKCECGCCCGFFCFBFCECKCECFGECGFCEC"
    "FFCECFGEIMECCCCCCQEDEEBCCCECBBCCECGCCCCBBCBFCCCCCECCFBBLGCCIGKCEEEJFKGMDJGCCCCBBFBCCCCECCCCFBGDBCECCBBCC"
    "EECCBBCCBCBBBBDCBBCEBBCECBBCBFCCCDDFBCCCCECCCCDBBCBCECCEDEEBGCCIGDEFHFCECECCCGGCCCGGDBDBDBCECCEEECBBBBCC"
    "CCBDGCECBBECCCQQCCGCCEEOKGCBBCECECCECECECBBCGCICGCDBECGCBBCCBBBBCEBBCCCBBCCBBBBBBBBCCBBCECGCBBCCEECEGCEC"
    "CICECCBBCECJFCCDBEJBGCBBBBDDCCCCBBCBBBCBBBBBCBBBBCCGCCCBBCDCBECBBBBCCBBBBBCBCCBBCCBBBBBBBCBBBBBBBBBBCBBB"
    "BBCCBDBBBCBBBBDCBBCCBBBCBBDCBCBCBBBBBBBDDBBBBBBBBBBBBBCCBDECBBBBCDEDCBBBFBBCCECEHFCCCCBBBBCCBBHFCCCCEGDB"
    "CECCBBCGGCBBCCBBBBBBBBCCBBCDDDDCBBBBGIDHEBEBCGCBDDBBBECCCCHDCBBCCMICCGIGEBBCCCCCDNIGCCCECGBDCGDDDBCGBDEF"
    "DCGECMECLBEIBBDNGEIPBCBDCECCCCCCCCBBCBBCCIBDCCBBBBCCCEGCCCDBCOBBCCBCBBCDCBBCHCBCDBCBDCBBFFGFFBBCECCCCBBB"
    "CBECDCCEECBBCDCDPCGGKCECGGGFIFCGEGCCCCBDBBECBBCCEEDBFFGCBDMEBNCECECCEBDHHDCGECECKCECFFBCCCGFCECFFCECFGCC"
    "CGGCECCCBBBFCCGDFCCGFCECFFCECLCEGFCECFFCECNEMCHDECCEOEMGECEGCCBDCECBBCBFBBCCCCCCCCCIOECGGCEBBEDBCEDFGHEG"
    "CECFFCECCDGCEGDCCECFFCECFBFCCIGCCCCCCECCKKCGFCECFFCECFGCCNCECFFCECFGEBBGGECGCCIBFGCCCGGCCCCECCCCCCCEFBCB"
    "BCECICGCCECCCGGCEGICCCCCCICGICLDCCEECIEICCBBBBCBBCICGBBCEGCECCBBCBBCDDDBCCBBCCBBBBBBBBCCBBCDDCEBBBBCBBCC"
    "CCCCGEDCFCGCBDBCBCGCFBEBDBBICCGKCGGEECCBDEBJGECGICCCCCCCBBCCECCCCCCBBCECBDCCGCCECEIJJICCCECEMGCBBNCECFFC"
    "ECFGCCCLCECFFCECFDDCCCBPCDDCCCCKFCDCNECBHEECFGECGFCECFFCECRGGCGDBCCCDBBBGcCCCCCICECGCBBCGECCBBCECCQGEDCD"
    "ICDDCBBDCMEEBCDCCECECKCECLCCCLCECFFCECFIEDDGIEECECLFNCECKCECLCCNCECFFCEC";
inline constexpr char kIQ2XXSSteps[] =
    "ACCCCCCGCECCCGGECGCGMICGEOeMMCSkaCGKCGCEMKCGMGCEMOUCKYCSeSGECGMECGCWYY4K/HCGKISMGEOGMSIKwKyGMEMUqgiO/FCG"
    "ScaE/FusCGWQICyIwC/RCGSOocU/hYMw//A0CGGECGGIEKCGSScIEYIYIKeGMkQWK8/TCGSEyqEK4gSGEGCkGYau/H/RCY/LmqKGg88/"
    "PGSYeo4ekE/XCu//I///ZCGUccMM/B/JCGEOSkgiWUSm/T/Z/LGMGuWo6yUK/Z//2s//UiWe/L/h////Mw";
inline constexpr char kIQ2XSSteps[] =
    "ACCCCCCCCCCCCECCCCCCCECGCCCECECKCCCCCCCCCCGCCCECGGECGSCCCECGKCGEOIUCCCCCCCECGCCCECCEKCGSCCCECGKCGKIcCGOE"
    "CcYCCCCCCGEGCGGMSICCGScGUSGsEKCCCCCCCECGCCCECGICCGSCCCECGKCGSMCOCCESSkCCCECGKCECMGcCGS2MWwCGCQMUWEu/FqCC"
    "CCCCCGKCGSSKCGSGQgUiYECGQC2cKgMQ8EGCKWUO6MYMmECUCCCCCCCECGCCCCCCGEGCGSCCCECGKCGSEQICGCOC2CCCECECKCGSMQCG"
    "MGsKIWGuCGSEIIiKUGQg/PCCCECGGECGScCGEOC0eyCCGKISKSIGwGogWIMQIicKC/vYCGSMIMUC/nOeQO/NSEs/Z0y/BiIiCCCECGIC"
    "CGSCWCCCCESKGmSkCQGECGCCOSQUeuUmcGQWKCWI/hiGIKECGSOQYUc/LUUEaGG/BmCs/bom8gkCECKIuuGiECEUcSko//SUUKCEwGG2"
    "CuCmQ";
inline constexpr char kIQ2SSteps[] =
    "ACCCCCCCCCCCCECCCCCCCECCCCCCCECGEECCCCCCCCECGCCCECCCCECECGCCGCGCCCECGICCCCCEOEEEIICCCCCCCECCCCCCCCCCCCCC"
    "CGCCCCECECGCCCCCCCCCECECCCCCCCECGCCCECGKCCCCEOECECGKCGSCCCECCCCEECCCCCCCCECGEIOCCGCCCEIECECGKISKCIECKiMC"
    "CCCCCCECCECCCECCCCCCCECCEECECGCCCCCCCCCCCCECCCCCCCECGCCCECQCECEGCGEGCQCGSCCCECCCCECECCCCCCCECGCCCECGKCCC"
    "CCCCECGCCCECGKCGSECECGKCGSaCCCCCECEICCCECGKCYCCCECGKCGQWKGSOoCCCECCCCEECCGCCIGIEOCCGCCGICCGCGKCGSIMECEGY"
    "CQECCCCECECGCCCECGKCGSECECGKCGOEcCGSQmEGCQCGaSCCG6WMcMCUCCCCCCCCCCCECCCCCCCCCCCGCGECECGCCCECCCCCCGCCCCCC"
    "CECGCCCECGKCGCCCGGECECGKCYCCCCCCCCCCCCECCCCCCCECGCCCECGKCCCCCCCECGCCCECGICCGSCCCECGKCGSWGCECCCCECGCCCECG"
    "MGSCCCECGKCGSOOCGS2CCCECCCCCCCECCCCCCCECGCCCECQCCCCCCCECGCCCECGKCGSECECGKCGQCcCCCCCCCECGCCCECGKCGSCCCECG"
    "KCGScCGOE2CCCECGKCGIKcCGS2QqUECCECCCECGECECGMGSCCCECGKCGSQOGSOgIECECGKCGScCGSIQOQ/DQCGoUMa/VsICCCECECEGC"
    "GCCCEIEGCQCECCCCECGCCCECQCGQCEECCQCGuCCCCCCCEICCCECGKCGSCCCECGKCGSIUCGQC2EGCQCGmICYW0WCMSICECCCCGGCCCECG"
    "KCGSEGCQCGImCGSyECCCECGKCGSOOCGSqEIgQiCGOE0CiE/rSEEEIGCCGmGcWiGMECeECQECGSiOGQ/n0QyuUcCKCEkU";
inline constexpr char kIQ3XXSSteps[] =
    "ACCFCEBCHJZCECFCHEDCHLMICCFHCHCEKGOEGBCLjTUFLMCEGTQzXUECVOQCFCHCFCCLBYCHHCvCFCHHiGCOJNQLEjoESTM/OOgCHCFC"
    "EDJfCCDCHHbEBICHGBCNBNUHEsEhOYUKb/GCLXcHCHCVNFGCOJLCbCFNVQPS9PTGGMbfSVoVULOCME/OUPBQGReflLhOV/ODCOyXXIGQ"
    "XfOgIpdLEjIX/QsOyQCOdgelkG/HhlxoOyCCBSQsKqbFWNOVhQfCS/F";
inline constexpr char kIQ3SSteps[] =
    "ABBDCBBBCCCBEGFCDCCCFCHDDBBBCEBEDDECEHNEFGBECBDDDEDEGDCCCNDIGEDCHCDGECNCEDLECDGGDGPKCMCEFGECPFLDCORPHCCM"
    "CEFNEUBBCEBCCCBCHDCOCDJGBCDCEFHDGHCOGCKDCBEGGDKDKHDDBDGGBEFRGLCFCNCHECEVHDGHCPnEDNCbCFCHMERGIBCCCBCCCDCE"
    "BCHCCDCNBDCDCGDEDDEDGHYDDKCFHCKEKDECDEJCFCHGOLGJDHDEZDHFJNBLNICFKcEUENCLFaHCCCDHCCFCDCKGICCHFCNQKECKGKCM"
    "ZHEFCEBJCEGOIGFEHRGENHCLFKKNTTgCNCLjEGGEDDHHQKFCCHGFGGEUCFFEKFPDGMFCFCHEjCSLBZMCKhZRUYFLLGZGEGOEDDMGFCCF"
    "HJgGJKFGNXFBPNFMGGDMKMkMTC3gCO3CCMCVQQHdWSGLFGIMFP1OPODZUVbpC1EDJCMCMGQHLPCcDEGDHRZYDOWEGFYqQgXn";

// Coordinate i of a point is in its bits from i * 16 / coordinates on, so that points ascend as well.
template <int count_, int levels, int coordinates>
struct GridPoints {
  static constexpr int count = count_;
  uint16_t points[count];

  explicit constexpr GridPoints(const char* steps) : points{} {
    int32_t number = 0;
    for (uint16_t& point : points) {
      int32_t step = digit(*steps++);
      for (number += step; step == 63; number += step) step = digit(*steps++);
      int32_t rest = number;
      for (int i = 0; i < coordinates; ++i, rest /= levels) {
        point = static_cast<uint16_t>(point | rest % levels << (i * 16 / coordinates));
      }
    }
  }

 private:
  static constexpr int32_t digit(char c) {
    if (c >= 'a') return c - 'a' + 26;
    if (c >= 'A') return c - 'A';
    if (c >= '0') return c - '0' + 52;
    return c == '+' ? 62 : 63;
  }
};

struct AllGrids {
  GridPoints<2048, 3, 8> iq1{kIQ1Steps};
  GridPoints<256, 3, 8> iq2_xxs{kIQ2XXSSteps};
  GridPoints<512, 3, 8> iq2_xs{kIQ2XSSteps};
  GridPoints<1024, 3, 8> iq2_s{kIQ2SSteps};
  GridPoints<256, 8, 4> iq3_xxs{kIQ3XXSSteps};
  GridPoints<512, 8, 4> iq3_s{kIQ3SSteps};
};
inline constexpr AllGrids kGrids;
#if defined(__CUDACC__)
static __device__ const AllGrids kDeviceGrids = kGrids;
#endif

// How formats store them.
inline constexpr GridCodes kIQ1Grid{.grid = Grid::iq1, .coordinates = 8, .number_bits = 11, .sign_bits = 1};
inline constexpr GridCodes kIQ2XXSGrid{.grid = Grid::iq2_xxs, .coordinates = 8, .number_bits = 8, .sign_bits = 8};
inline constexpr GridCodes kIQ2XSGrid{.grid = Grid::iq2_xs, .coordinates = 8, .number_bits = 9, .sign_bits = 8};
inline constexpr GridCodes kIQ2SGrid{.grid = Grid::iq2_s, .coordinates = 8, .number_bits = 10, .sign_bits = 8};
inline constexpr GridCodes kIQ3XXSGrid{.grid = Grid::iq3_xxs, .coordinates = 4, .number_bits = 8, .sign_bits = 8};
inline constexpr GridCodes kIQ3SGrid{.grid = Grid::iq3_s, .coordinates = 4, .number_bits = 9, .sign_bits = 8};

// The points of a grid, in memory that the caller can read.
MOE_HOST_DEVICE inline const uint16_t* grid_points(Grid grid) {
#if defined(__CUDA_ARCH__)
  const AllGrids& all = kDeviceGrids;
#else
  const AllGrids& all = kGrids;
#endif
  switch (grid) {
    case Grid::none: break;
    case Grid::iq1: return all.iq1.points;
    case Grid::iq2_xxs: return all.iq2_xxs.points;
    case Grid::iq2_xs: return all.iq2_xs.points;
    case Grid::iq2_s: return all.iq2_s.points;
    case Grid::iq3_xxs: return all.iq3_xxs.points;
    case Grid::iq3_s: return all.iq3_s.points;
  }
  return nullptr;
}

// The code of column `place` of the eight that `unit` stands for.
MOE_HOST_DEVICE inline uint32_t code_of_unit(const GridCodes& codes, uint32_t unit, int place) {
  const int width = codes.coordinate_bits(), within = place & (codes.coordinates - 1);
  const uint32_t number = unit >> (within == place ? 0 : codes.number_bits) & (codes.points() - 1u);
  const uint32_t coordinate = grid_points(codes.grid)[number] >> within * codes.spacing() & ((1u << width) - 1u);
  const uint32_t signs = unit >> (codes.bits() - codes.sign_bits);
  return coordinate | (codes.sign_bits == 1 ? signs : signs >> place & 1u) << width;
}

// The reverse: the unit of `count` codes, at most eight, code(0) .. code(count - 1), whose coordinates are those of
// points. If there are fewer than eight, the others' are those of any such points.
template <class Code>
MOE_HOST_DEVICE uint32_t unit_of_codes(const GridCodes& codes, int count, Code&& code) {
  const int width = codes.coordinate_bits();
  const uint16_t* points = grid_points(codes.grid);
  const uint32_t last = codes.points() - 1u;
  uint32_t unit = 0, signs = 0;
  for (int first = 0; first < 8 && first < count; first += codes.coordinates) {
    uint32_t point = 0, known = 0;
    for (int i = 0; i < codes.coordinates && first + i < count; ++i) {
      const uint32_t value = code(first + i), mask = (1u << width) - 1u;
      point |= (value & mask) << i * codes.spacing();
      known |= mask << i * codes.spacing();
      signs |= (value >> width) << (first + i);
    }
    uint32_t number = 0;
    if (first + codes.coordinates <= count) {
      // The last one that is not above it.
      for (uint32_t half = codes.points() / 2; half > 0; half /= 2) {
        if (points[number + half] <= point) number += half;
      }
    } else {
      while (number < last && ((points[number] ^ point) & known) != 0) ++number;
    }
    unit |= number << (first == 0 ? 0 : codes.number_bits);
  }
  return unit | (signs & ((1u << codes.sign_bits) - 1u)) << (codes.bits() - codes.sign_bits);
}

}  // namespace moe
