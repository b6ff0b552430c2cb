// Max-pooling over two axes in float32 for x86 processors, called by XLA on its own threads.
//
// x is (n, height, width, channels), the result (n, rows, columns, channels), with the place of each largest value in
// its window beside it: one byte. Two linear functions belong to it, each the transpose of the other: what stands in an
// x at the places, and the x in which a y stands at the places.

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "memory.h"
#include "parallel.h"

namespace ffi = xla::ffi;

namespace fluxion {
namespace {

struct Range {
  int64_t from, to;
};

struct Pooling {
  int64_t n, height, width, channels;
  int64_t rows, columns;
  int64_t kernel_height, kernel_width, stride_down, stride_right, top, left;

  // Of the cells of window i along an axis, those inside of x.
  static Range cells(int64_t i, int64_t stride, int64_t pad, int64_t kernel, int64_t size) {
    const int64_t start = i * stride - pad;
    return {std::max<int64_t>(-start, 0), std::min(kernel, size - start)};
  }
  Range cells_down(int64_t i) const { return cells(i, stride_down, top, kernel_height, height); }
  Range cells_right(int64_t j) const { return cells(j, stride_right, left, kernel_width, width); }

  // The windows over a cell along an axis.
  static Range windows(int64_t cell, int64_t stride, int64_t pad, int64_t kernel, int64_t count) {
    const int64_t last = cell + pad, before = last - kernel;  // windows that start here, or before, end before the cell
    return {before < 0 ? 0 : before / stride + 1, std::min(count, last / stride + 1)};
  }
  Range windows_down(int64_t h) const { return windows(h, stride_down, top, kernel_height, rows); }
  Range windows_right(int64_t w) const { return windows(w, stride_right, left, kernel_width, columns); }
};

}  // namespace
}  // namespace fluxion

#define LOOPS "windows.h"
#include "vectors.h"

namespace fluxion {
namespace {

// The loops of this processor.
struct Rows {
  decltype(&avx2::pool_row) pool = chosen(avx512::pool_row, avx2::pool_row);
  decltype(&avx2::pick_row) pick = chosen(avx512::pick_row, avx2::pick_row);
  decltype(&avx2::place_row) place = chosen(avx512::place_row, avx2::place_row);
};
const Rows loops;

using Sizes = ffi::Span<const int64_t>;
using Array = ffi::Buffer<ffi::F32>;
using Bytes = ffi::Buffer<ffi::U8>;

// The sizes, or an error where the arrays and the options do not belong together.
ffi::ErrorOr<Pooling> pooling(Sizes x, Sizes y, Sizes places, Sizes kernel, Sizes stride, Sizes padding) {
  const auto wrong = [](const char* what) {
    return ffi::Unexpected(ffi::Error::InvalidArgument(std::string("fluxion pooling: ") + what));
  };
  if (!loops.pool) return wrong("this processor has neither AVX2 with FMA nor AVX-512");
  if (x.size() != 4 || y.size() != 4 || places.size() != 4) return wrong("expected arrays with 4 axes");
  if (kernel.size() != 2 || stride.size() != 2 || padding.size() != 4)
    return wrong("expected 2 kernel sizes, 2 strides and 4 paddings");
  constexpr int64_t most = int64_t{1} << 31;
  for (const Sizes& sizes : {x, y, padding})
    for (int64_t size : sizes)
      if (size < 0 || size > most) return wrong("a size is out of range");
  for (int axis = 0; axis < 4; axis++)
    if (y[axis] != places[axis]) return wrong("expected a place for each result");
  if (x[0] != y[0] || x[3] != y[3]) return wrong("channels or batch sizes differ");
  for (int axis = 0; axis < 2; axis++) {
    if (kernel[axis] < 1 || kernel[axis] > 255 || kernel[0] * kernel[1] > 255)
      return wrong("expected a kernel of 1 to 255 cells");
    if (stride[axis] < 1 || stride[axis] > most) return wrong("expected strides above 0");
    if (padding[2 * axis] >= kernel[axis] || padding[2 * axis + 1] >= kernel[axis])
      return wrong("expected padding smaller than the kernel");
    const int64_t room = x[1 + axis] + padding[2 * axis] + padding[2 * axis + 1] - kernel[axis];
    if (x[1 + axis] == 0 || y[1 + axis] != (room < 0 ? 0 : room / stride[axis] + 1))
      return wrong("the number of windows is another");
  }
  return Pooling{x[0],      x[1],      x[2],      x[3],      y[1],       y[2],
                 kernel[0], kernel[1], stride[0], stride[1], padding[0], padding[2]};
}

// Calls run(image, row) for all rows, several of them a task; a row has so many floats.
template <class Run>
void for_rows(ffi::ThreadPool& pool, int64_t n, int64_t rows, int64_t floats, Run&& run) {
  const int64_t lines = n * rows, together = std::max<int64_t>(32768 / std::max<int64_t>(floats, 1), 1);
  parallel(pool, (lines + together - 1) / together, [&](int64_t task, int64_t) {
    for (int64_t line = task * together; line < std::min(lines, (task + 1) * together); line++)
      run(line / rows, line % rows);
  });
}

ffi::Error pool(ffi::ThreadPool threads, Array x, ffi::Result<Array> y, ffi::Result<Bytes> places, Sizes kernel,
                Sizes stride, Sizes padding) {
  const auto sizes = pooling(x.dimensions(), y->dimensions(), places->dimensions(), kernel, stride, padding);
  if (sizes.has_error()) return sizes.error();
  const Pooling p = *sizes;
  large_pages(y->untyped_data(), y->size_bytes());
  large_pages(places->untyped_data(), places->size_bytes());
  for_rows(threads, p.n, p.rows, p.columns * p.channels, [&](int64_t image, int64_t i) {
    const int64_t at = (image * p.rows + i) * p.columns * p.channels;
    loops.pool(p, x.typed_data() + image * p.height * p.width * p.channels, i, y->typed_data() + at,
               places->typed_data() + at);
  });
  return ffi::Error::Success();
}

ffi::Error pick(ffi::ThreadPool threads, Array x, Bytes places, ffi::Result<Array> y, Sizes kernel, Sizes stride,
                Sizes padding) {
  const auto sizes = pooling(x.dimensions(), y->dimensions(), places.dimensions(), kernel, stride, padding);
  if (sizes.has_error()) return sizes.error();
  const Pooling p = *sizes;
  large_pages(y->untyped_data(), y->size_bytes());
  for_rows(threads, p.n, p.rows, p.columns * p.channels, [&](int64_t image, int64_t i) {
    const int64_t at = (image * p.rows + i) * p.columns * p.channels;
    loops.pick(p, x.typed_data() + image * p.height * p.width * p.channels, i, places.typed_data() + at,
               y->typed_data() + at);
  });
  return ffi::Error::Success();
}

ffi::Error place(ffi::ThreadPool threads, Array y, Bytes places, ffi::Result<Array> x, Sizes kernel, Sizes stride,
                 Sizes padding) {
  const auto sizes = pooling(x->dimensions(), y.dimensions(), places.dimensions(), kernel, stride, padding);
  if (sizes.has_error()) return sizes.error();
  const Pooling p = *sizes;
  large_pages(x->untyped_data(), x->size_bytes());
  std::vector<Range> right(p.width);
  for (int64_t w = 0; w < p.width; w++) right[w] = p.windows_right(w);
  const int64_t image_size = p.rows * p.columns * p.channels;
  for_rows(threads, p.n, p.height, p.width * p.channels, [&](int64_t image, int64_t h) {
    loops.place(p, y.typed_data() + image * image_size, h, places.typed_data() + image * image_size, right.data(),
                x->typed_data() + (image * p.height + h) * p.width * p.channels);
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace fluxion

#define FLUXION_POOLING(binding) \
  binding.Attr<fluxion::Sizes>("kernel").Attr<fluxion::Sizes>("stride").Attr<fluxion::Sizes>("padding")
#define FLUXION_LINEAR                       \
  ffi::Ffi::Bind()                           \
      .Ctx<ffi::ThreadPool>()                \
      .Arg<fluxion::Array>()                 \
      .Arg<fluxion::Bytes>()                 \
      .Ret<fluxion::Array>()
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    fluxion_max_pool, fluxion::pool,
    FLUXION_POOLING(
        ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<fluxion::Array>().Ret<fluxion::Array>().Ret<fluxion::Bytes>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fluxion_max_pool_pick, fluxion::pick, FLUXION_POOLING(FLUXION_LINEAR));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fluxion_max_pool_place, fluxion::place, FLUXION_POOLING(FLUXION_LINEAR));
