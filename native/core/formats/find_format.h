// Weight formats by name. lib/core/formats/weight_format.ts has the same formats.
#pragma once

#include <string>
#include <vector>

#include "core/formats/weight_format.h"

namespace moe {

// The format of this name, or null if there is none. Beside the named ones (see named.h) these are all
// `<code>_<groups>_<scales>`:
//   code     i2, i3, i4, i5, i6, i8: signed integers; u2 .. u8: unsigned, with a zero point for every scale;
//            a2 .. a8: unsigned, with a minimum for every scale, of its type (f32, f16 or bf16);
//            e4m3, e2m1: small floats; nf4, fp4: the tables of bitsandbytes; iq4: that of GGUF
//   groups   g16, g32 and other multiples of 16 up to g1024: consecutive columns of a row that share a scale;
//            channel: all columns of a row; b128: 128 rows x 128 columns
//   scales   f32, f16, bf16, e4m3 or e8m0
// Equal names give the same address, for as long as the process lives. Thread-safe.
const WeightFormat* find_format(const std::string& name);

// The named formats, and enough of the others to have every code, kind of group and type of scale: for tests, and to
// find out what a kernel accepts.
std::vector<const WeightFormat*> sample_formats();

}  // namespace moe
