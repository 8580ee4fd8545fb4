#include <concepts>

template <std::integral T>
__global__ void check_kernel(T*) {}

int main() {
  check_kernel<int><<<1, 1>>>(nullptr);
  return cudaGetLastError() == cudaSuccess ? 0 : 1;
}
