#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <oneapi/dnnl/dnnl_ukernel.hpp>
#include <utility>
#include <vector>

/** Columns of a product that one task computes; also the block in which oneDNN packs weights. */
constexpr std::size_t slice_columns = 64;
/** Rows of one call of a ukernel: measured as better than 32, 64 and 256. */
constexpr std::size_t block_rows = 128;

inline std::size_t whole_slices(std::size_t columns) {
  return (columns + slice_columns - 1) / slice_columns * slice_columns;
}

/** Zeroed memory in huge pages, where the system gives them. */
template <class Element>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t count) {
    constexpr std::size_t page = std::size_t{2} << 20;
    bytes_ = (count * sizeof(Element) + page - 1) / page * page;
    void* memory = mmap(nullptr, bytes_ + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mapping_ = static_cast<char*>(memory);
    char* aligned = mapping_ + (page - reinterpret_cast<std::uintptr_t>(mapping_) % page) % page;
    madvise(aligned, bytes_, MADV_HUGEPAGE);
    bytes_ += page;
    elements_ = reinterpret_cast<Element*>(aligned);
  }
  Buffer(Buffer&& other) noexcept
      : mapping_(std::exchange(other.mapping_, nullptr)), bytes_(other.bytes_), elements_(other.elements_) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(mapping_, other.mapping_);
    std::swap(bytes_, other.bytes_);
    std::swap(elements_, other.elements_);
    return *this;
  }
  ~Buffer() {
    if (mapping_ != nullptr) munmap(mapping_, bytes_);
  }

  Element* data() const { return elements_; }
  Element* operator+(std::size_t offset) const { return elements_ + offset; }

 private:
  char* mapping_ = nullptr;
  std::size_t bytes_ = 0;
  Element* elements_ = nullptr;
};

/** What a layer multiplies: elements, and their dtypes in oneDNN. */
template <class Element>
struct Arithmetic;
template <>
struct Arithmetic<std::uint16_t> {
  using Sum = float;
  static constexpr auto element = dnnl::memory::data_type::bf16;
  static constexpr auto sum = dnnl::memory::data_type::f32;
};
template <>
struct Arithmetic<std::int8_t> {
  using Sum = std::int32_t;
  static constexpr auto element = dnnl::memory::data_type::s8;
  static constexpr auto sum = dnnl::memory::data_type::s32;
};

/** Products of up to block_rows rows of `inputs` elements with one slice of packed weights: a ukernel for each row
 * count. */
template <class Element>
class Product {
  using Types = Arithmetic<Element>;

 public:
  using Sum = typename Types::Sum;

  /** @param inputs padded to whole slices, with zeros. @param row_stride of the rows, in elements. */
  Product(std::size_t inputs, std::size_t row_stride) : inputs_(inputs), offsets_{{0, 0}} {
    for (std::size_t rows = 1; rows <= block_rows; ++rows) {
      dnnl::ukernel::brgemm kernel(rows, slice_columns, inputs, 1, row_stride, slice_columns, slice_columns,
                                   Types::element, Types::element, Types::sum);
      kernel.set_add_C(false);
      kernel.finalize();
      kernel.generate();
      scratch_bytes_ = std::max(scratch_bytes_, kernel.get_scratchpad_size());
      kernels_.push_back(std::move(kernel));
    }
    if (kernels_[0].get_B_pack_type() != dnnl::ukernel::pack_type::pack32) {
      throw std::runtime_error("expected oneDNN to want weights packed by 32 bits");
    }
  }

  std::size_t inputs() const { return inputs_; }
  std::size_t scratch_bytes() const { return scratch_bytes_; }

  /** sums [rows, slice_columns] = rows * slice */
  void run(std::size_t rows, const Element* from, const Element* slice, Sum* sums, void* scratch) const {
    const dnnl::ukernel::brgemm& kernel = kernels_[rows - 1];
    kernel.set_hw_context();
    kernel.execute(from, slice, offsets_, sums, scratch);
  }

 private:
  const std::size_t inputs_;
  const std::vector<std::pair<dnnl::memory::dim, dnnl::memory::dim>> offsets_;
  std::vector<dnnl::ukernel::brgemm> kernels_;
  std::size_t scratch_bytes_ = 0;
};

/** Packs slices of stored matrices [outputs, inputs] for Product, filled up with zeros. */
template <class Element>
class Packer {
 public:
  Packer(std::size_t outputs, std::size_t inputs)
      : outputs_(outputs),
        inputs_(inputs),
        padded_(whole_slices(inputs)),
        rows_(slice_columns * padded_),
        transform_(padded_, slice_columns, dnnl::ukernel::pack_type::trans, padded_, slice_columns,
                   Arithmetic<Element>::element, Arithmetic<Element>::element) {
    transform_.generate();
  }

  std::size_t slices() const { return whole_slices(outputs_) / slice_columns; }
  std::size_t slice_size() const { return slice_columns * padded_; }

  /** @param sign_bits are inverted in every byte; 0x80 makes unsigned codes signed. */
  void pack(const Element* matrix, std::size_t slice, Element* to, int sign_bits = 0) {
    std::fill(rows_.begin(), rows_.end(), Element{0});
    const std::size_t first = slice * slice_columns;
    for (std::size_t row = first; row < std::min(outputs_, first + slice_columns); ++row) {
      for (std::size_t column = 0; column < inputs_; ++column) {
        rows_[(row - first) * padded_ + column] = static_cast<Element>(matrix[row * inputs_ + column] ^ sign_bits);
      }
    }
    transform_.execute(rows_.data(), to);
  }

 private:
  const std::size_t outputs_, inputs_, padded_;
  std::vector<Element> rows_;
  dnnl::ukernel::transform transform_;
};
