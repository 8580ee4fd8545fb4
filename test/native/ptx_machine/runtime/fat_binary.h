// nvcc's fat binaries, of which the PTX is read.
#pragma once

#include <string_view>

namespace ptx_machine {

// What a driver would compile for a GPU of this compute capability, such as 90: of the texts for it or for older ones,
// that for the newest. Texts for an architecture such as 9.0a are for that alone. Empty: there is none.
// `wrapper` is what __cudaRegisterFatBinary gets. Throws a std::runtime_error if it is not as expected.
std::string_view find_ptx(const void* wrapper, int capability);

}  // namespace ptx_machine
