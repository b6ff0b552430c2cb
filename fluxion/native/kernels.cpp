// Convolution over two axes in float32 for x86 processors, called by XLA on its own threads.
//
// x is (n, height, width, in), a weight (kernel height, kernel width, in, out), the result y (n, rows, columns, out):
//   y[n, i, j, o] = sum over r, s, c of x[n, i * stride + r * dilation - top, j * stride + s * dilation - left, c]
//                   * w[r, s, c, o]
// With groups, a weight is (kernel height, kernel width, in / groups, out), and o sees the channels of its group.
// There are three functions, each linear in both of its arguments and each the transpose of the others: y from x and w,
// x from y and w, w from x and y; and the first of them with a bias and relu in the same pass. Cells outside of x are
// zeros that are multiplied, so NaN and infinity pass through.
//
// The work is cut by shapes alone, never by the number of threads: a result is the same to the bit on any number.

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "memory.h"
#include "parallel.h"

namespace ffi = xla::ffi;

namespace fluxion {

// Some images, or a band of the rows of one, as the tiles see it; steps are in floats.
struct Plane {
  int64_t images, rows, columns;        // of the result
  int64_t lines, across, taps;          // what a window sees: `lines` runs of `taps` floats, `across` of them in a row
  int64_t pixel, next_row, next_image;  // in x: to the window beside, to those below, to those of the next image
  int64_t column, row;                  // in a window: to the line beside, to those below
  int64_t y_pixel, y_row, y_image;      // in the result
  int64_t channels;                     // out
  const float* bias;                    // of the channels, or null
  bool relu;

  int64_t line(int64_t k) const { return k / across * row + k % across * column; }
};

// A part of the kernel: so many lines and taps, how many lines of its first row come before it, and whether the sums
// begin and end with it.
struct Part {
  int64_t beside, lines, taps;
  bool first, last;
};
constexpr int64_t PART = 8192;  // floats of the weight in a part

}  // namespace fluxion

#define LOOPS "tiles.h"
#include "vectors.h"

namespace fluxion {

// The loops of this processor.
struct Processor {
  const char* name = chosen("AVX-512", "AVX2");
  decltype(&avx2::forward_plane) forward = chosen(avx512::forward_plane, avx2::forward_plane);
  decltype(&avx2::weight_plane) weight = chosen(avx512::weight_plane, avx2::weight_plane);
  decltype(&avx2::depthwise_plane) depthwise = chosen(avx512::depthwise_plane, avx2::depthwise_plane);
  decltype(&avx2::depthwise_weight_plane) depthwise_weight =
      chosen(avx512::depthwise_weight_plane, avx2::depthwise_weight_plane);
};
static const Processor processor;

static ffi::Error no_memory() {
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "fluxion convolution: out of memory for working space");
}

using Sizes = ffi::Span<const int64_t>;
using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;

// Of the options, two numbers each for stride and dilation (down, right), four for padding (top, bottom, left, right).
struct Options {
  Sizes stride, padding, dilation;
  int64_t groups;
};

struct Convolution {
  int64_t n, height, width, in;
  int64_t kernel_height, kernel_width, out;
  int64_t rows, columns;
  int64_t stride_down, stride_right, dilation_down, dilation_right, top, left;
  int64_t groups, group_in, group_out;
  bool depthwise;  // one channel in for each channel out

  int64_t x_size() const { return height * width * in; }
  int64_t y_size() const { return rows * columns * out; }
  int64_t w_size() const { return kernel_height * kernel_width * group_in * out; }
  int64_t reach_down(int64_t kernel_rows) const { return (kernel_rows - 1) * dilation_down + 1; }
  int64_t reach_right(int64_t kernel_columns) const { return (kernel_columns - 1) * dilation_right + 1; }
  // Channels are cut into panels of this width by nature; 0: as one likes.
  int64_t panel_in() const { return groups == 1 || depthwise ? 0 : group_in; }
  int64_t panel_out() const { return groups == 1 || depthwise ? 0 : group_out; }
};

// The sizes, or an error where the three arrays and the options do not belong together.
static ffi::ErrorOr<Convolution> convolution(Sizes x, Sizes w, Sizes y, const Options& options) {
  const auto wrong = [](const char* what) {
    return ffi::Unexpected(ffi::Error::InvalidArgument(std::string("fluxion convolution: ") + what));
  };
  const Sizes &stride = options.stride, &padding = options.padding, &dilation = options.dilation;
  const int64_t groups = options.groups;
  if (!processor.forward) return wrong("this processor has neither AVX2 with FMA nor AVX-512");
  if (x.size() != 4 || w.size() != 4 || y.size() != 4) return wrong("expected arrays with 4 axes");
  if (stride.size() != 2 || padding.size() != 4 || dilation.size() != 2)
    return wrong("expected 2 strides, 4 paddings and 2 dilations");
  constexpr int64_t most = int64_t{1} << 31;
  for (const Sizes& sizes : {x, w, y, padding})
    for (int64_t size : sizes)
      if (size < -most || size > most) return wrong("a size is out of range");
  for (const Sizes& steps : {stride, dilation})
    for (int64_t step : steps)
      if (step < 1 || step > most) return wrong("expected strides and dilations above 0");
  if (w[0] < 1 || w[1] < 1) return wrong("expected a kernel with cells");
  if (groups < 1 || x[3] != w[2] * groups || y[3] != w[3] || y[3] % groups || x[0] != y[0])
    return wrong("channels, groups or batch sizes differ");
  for (int axis = 0; axis < 2; axis++) {
    if (stride[axis] > 1 && dilation[axis] > 1) return wrong("expected no stride along a dilated axis");
    const int64_t reach = (w[axis] - 1) * dilation[axis] + 1;
    const int64_t room = x[1 + axis] + padding[2 * axis] + padding[2 * axis + 1] - reach;
    if (y[1 + axis] != (room < 0 ? 0 : room / stride[axis] + 1)) return wrong("the number of windows is another");
  }
  return Convolution{x[0],      x[1],      x[2],        x[3],        w[0],       w[1],       w[3],   y[1], y[2],
                     stride[0], stride[1], dilation[0], dilation[1], padding[0], padding[2], groups, w[2],
                     y[3] / groups, groups > 1 && w[2] == 1 && groups == y[3]};
}

// Some channels of the images of an array: `channels` of `pixel` floats.
struct Picture {
  const float* start;
  int64_t height, width, pixel, channels;

  Picture(const float* array, int64_t height, int64_t width, int64_t pixel, int64_t first, int64_t channels)
      : start(array + first), height(height), width(width), pixel(pixel), channels(channels) {}
};

// Cells of an image from (top, left) on, as rows of `columns` pixels; zeros outside. In place where it lies so already.
struct Window {
  const float* start;
  int64_t row, pixel;
};

static Window window(const Picture& x, const float* image, int64_t top, int64_t left, int64_t rows, int64_t columns,
                     bool gather, float* space) {
  if (top >= 0 && left >= 0 && top + rows <= x.height && left + columns <= x.width && !gather)
    return {image + (top * x.width + left) * x.pixel, x.width * x.pixel, x.pixel};
  const int64_t channels = x.channels, row = columns * channels;
  const int64_t from = std::clamp<int64_t>(-left, 0, columns), to = std::clamp<int64_t>(x.width - left, from, columns);
  for (int64_t i = 0; i < rows; i++) {
    float* line = space + i * row;
    if (top + i < 0 || top + i >= x.height || from == to) {
      std::memset(line, 0, row * sizeof(float));
      continue;
    }
    std::memset(line, 0, from * channels * sizeof(float));
    const float* cell = image + ((top + i) * x.width + left + from) * x.pixel;
    if (x.pixel == channels)
      std::memcpy(line + from * channels, cell, (to - from) * channels * sizeof(float));
    else
      for (int64_t j = from; j < to; j++, cell += x.pixel) std::copy_n(cell, channels, line + j * channels);
    std::memset(line + to * channels, 0, (columns - to) * channels * sizeof(float));
  }
  return {space, row, channels};
}

// How the images of a batch, the rows of an image and the channels of the result are cut into tasks: some 16 in all or
// more, with windows of at most some 64 Ki floats, or of a few hundred pixels where images are small, so that a
// weight is read from far away for many of them. Channels in groups are cut into these.
struct Cut {
  int64_t batches, bands, panels, width;

  Cut(int64_t n, int64_t rows, int64_t columns, double floats_per_row, int64_t channels, int64_t panel) {
    const double image = std::max(rows * floats_per_row, 1.0), most = 65536;
    const double wanted = std::min(std::max(16.0 / n, image / most), 1e9);
    bands = std::clamp<int64_t>(static_cast<int64_t>(wanted), 1, std::max<int64_t>(rows, 1));
    const double fitting = std::min(most / image, 256.0 / std::max<int64_t>(rows * columns, 1));
    const int64_t together = bands > 1 ? 1 : std::clamp<int64_t>(static_cast<int64_t>(fitting), 1, n);
    batches = (n + together - 1) / together;
    width = panel ? panel : batches * bands < 16 ? 64 : channels;
    panels = (channels + width - 1) / width;
  }
  int64_t tasks() const { return batches * bands * panels; }
  int64_t most_images(int64_t n) const { return (n + batches - 1) / batches; }
};

// One task: images and channels from..to, and which band of the rows.
struct Task {
  int64_t image, end_image, band, panel, channel, end_channel;

  Task() = default;
  Task(const Cut& cut, int64_t number, int64_t n, int64_t channels) {
    const int64_t batch = number / cut.panels % cut.batches;
    panel = number % cut.panels;
    band = number / cut.panels / cut.batches;
    image = n * batch / cut.batches, end_image = n * (batch + 1) / cut.batches;
    channel = panel * cut.width, end_channel = std::min(channels, channel + cut.width);
  }
};

// The windows of several images, one behind the other; `next` is from image to image.
struct Windows {
  const float* start;
  int64_t row, pixel, next;
};

static Windows windows(const Picture& x, const Task& task, int64_t top, int64_t left, int64_t rows, int64_t columns,
                       bool gather, float* space) {
  const int64_t size = rows * columns * x.channels, image_size = x.height * x.width * x.pixel;
  Window in{};
  for (int64_t image = task.image; image < task.end_image; image++) {
    in = window(x, x.start + image * image_size, top, left, rows, columns, gather,
                space + (image - task.image) * size);
    if (image == task.image && in.start != space) return {in.start, in.row, in.pixel, image_size};
  }
  return {space, in.row, in.pixel, size};
}

// Whether so many columns of a kernel make one run of floats; the channels of a group are gathered for that.
static bool in_one_run(const Convolution& c, int64_t kernel_columns) {
  return !c.depthwise && c.dilation_right == 1 && kernel_columns > 1;
}

// Sets how a kernel of so many rows, columns and channels lies in the windows.
static void set_kernel(Plane& p, const Convolution& c, const Windows& in, int64_t rows, int64_t columns,
                       int64_t channels) {
  const bool run = in_one_run(c, columns);
  p.across = run ? 1 : std::max<int64_t>(columns, 1);
  p.lines = run ? rows : rows * columns;
  p.taps = run ? columns * channels : channels;
  p.column = c.dilation_right * in.pixel, p.row = c.dilation_down * in.row, p.next_image = in.next;
}

static ffi::Error forward(ffi::ThreadPool& pool, Array x, Array w, const float* bias, bool relu, Result y,
                          const Options& options) {
  const auto sizes = convolution(x.dimensions(), w.dimensions(), y->dimensions(), options);
  if (sizes.has_error()) return sizes.error();
  const Convolution c = *sizes;
  if (c.n * c.y_size() == 0) return ffi::Error::Success();
  large_pages(y->untyped_data(), y->size_bytes());
  const int64_t seen = c.depthwise ? c.in : c.group_in;  // channels of x that a task sees at most
  const Cut cut(c.n, c.rows, c.columns, static_cast<double>(c.stride_down * c.width) * seen, c.out, c.panel_out());
  const int64_t columns = (c.columns - 1) * c.stride_right + c.reach_right(c.kernel_width);
  const int64_t most_rows = (c.rows + cut.bands - 1) / cut.bands;
  const int64_t band_rows = (most_rows - 1) * c.stride_down + c.reach_down(c.kernel_height);
  const double space_size = static_cast<double>(band_rows) * columns * seen * cut.most_images(c.n);
  const Memory space = memory(space_size * workers(pool, cut.tasks()));
  if (!space) return no_memory();
  const bool gather = c.groups > 1 && in_one_run(c, c.kernel_width);
  parallel(pool, cut.tasks(), [&](int64_t number, int64_t worker) {
    const Task task(cut, number, c.n, c.out);
    const int64_t from = c.rows * task.band / cut.bands, to = c.rows * (task.band + 1) / cut.bands;
    if (from == to) return;
    const int64_t first = c.depthwise ? task.channel : c.groups > 1 ? task.panel * c.group_in : 0;
    const Picture picture(x.typed_data(), c.height, c.width, c.in, first,
                          c.depthwise ? task.end_channel - first : c.group_in);
    const Windows in = windows(picture, task, from * c.stride_down - c.top, -c.left,
                               (to - from - 1) * c.stride_down + c.reach_down(c.kernel_height), columns, gather,
                               space.get() + static_cast<int64_t>(space_size) * worker);
    Plane p{};
    p.images = task.end_image - task.image, p.rows = to - from, p.columns = c.columns;
    set_kernel(p, c, in, c.kernel_height, c.kernel_width, c.group_in);
    p.pixel = c.stride_right * in.pixel, p.next_row = c.stride_down * in.row;
    p.y_pixel = c.out, p.y_row = c.columns * c.out, p.y_image = c.y_size();
    p.channels = c.out, p.bias = bias, p.relu = relu;
    if (c.kernel_height == 1 && p.next_row == p.columns * p.pixel) {  // the rows lie behind each other: one long row
      p.columns *= p.rows;
      p.rows = 1;
    }
    (c.depthwise ? processor.depthwise : processor.forward)(
        p, in.start, w.typed_data(), y->typed_data() + task.image * c.y_size() + from * c.columns * c.out,
        task.channel, task.end_channel);
  });
  return ffi::Error::Success();
}

static ffi::Error linear_forward(ffi::ThreadPool pool, Array x, Array w, Result y, Sizes stride, Sizes padding,
                                 Sizes dilation, int64_t groups) {
  return forward(pool, x, w, nullptr, false, y, {stride, padding, dilation, groups});
}

static ffi::Error biased_forward(ffi::ThreadPool pool, Array x, Array w, Array bias, Result y, Sizes stride,
                                 Sizes padding, Sizes dilation, int64_t groups, bool relu) {
  if (bias.dimensions().size() != 1 || w.dimensions().size() != 4 || bias.dimensions()[0] != w.dimensions()[3])
    return ffi::Error::InvalidArgument("fluxion convolution: expected a bias per channel");
  return forward(pool, x, w, bias.typed_data(), relu, y, {stride, padding, dilation, groups});
}

// Along one axis, the cells `offset, offset + stride, ...` of x are a convolution of y, with stride 1, by every
// stride-th cell of the reversed kernel: cell k of it is cell last - k * stride of the kernel, and starts at y[start].
// A dilated kernel has stride 1, thus one phase of all its cells, as far apart in y as they are in x.
struct Phase {
  int64_t cells, kernel, last, start, before;  // before: cells of the kernel in the phases before this one

  Phase(int64_t offset, int64_t size, int64_t kernel_size, int64_t stride, int64_t dilation, int64_t pad) {
    const int64_t shifted = offset + pad, residue = ((shifted % stride) + stride) % stride;
    cells = offset < size ? (size - offset - 1) / stride + 1 : 0;
    kernel = residue < kernel_size ? (kernel_size - residue - 1) / stride + 1 : 0;
    last = residue + (kernel - 1) * stride;
    start = (shifted - residue) / stride - (kernel - 1) * dilation;
    before = 0;
    for (int64_t r = 0; r < std::min(residue, kernel_size); r++) before += (kernel_size - r - 1) / stride + 1;
  }
};

static ffi::Error input_gradient(ffi::ThreadPool pool, Array y, Array w, Result x, Sizes stride, Sizes padding,
                                 Sizes dilation, int64_t groups) {
  const auto sizes =
      convolution(x->dimensions(), w.dimensions(), y.dimensions(), {stride, padding, dilation, groups});
  if (sizes.has_error()) return sizes.error();
  const Convolution c = *sizes;
  if (c.n * c.x_size() == 0) return ffi::Error::Success();
  large_pages(x->untyped_data(), x->size_bytes());
  const int64_t down = std::min(c.stride_down, c.height), right = std::min(c.stride_right, c.width);
  const auto row_phase = [&](int64_t a) {
    return Phase(a, c.height, c.kernel_height, c.stride_down, c.dilation_down, c.top);
  };
  const auto column_phase = [&](int64_t b) {
    return Phase(b, c.width, c.kernel_width, c.stride_right, c.dilation_right, c.left);
  };
  const int64_t most_down = (c.height - 1) / c.stride_down + 1, most_right = (c.width - 1) / c.stride_right + 1;
  const int64_t kernel_down = (c.kernel_height - 1) / c.stride_down + 1;
  const int64_t kernel_right = (c.kernel_width - 1) / c.stride_right + 1;

  // The kernels of the phases, with in and out changed: each (kernel rows, kernel columns, out of a group, in).
  const int64_t cell_size = c.in * c.group_out;
  const Memory packed = memory(c.w_size());
  const int64_t seen = c.depthwise ? c.out : c.group_out;  // channels of y that a task sees at most
  const Cut cut(c.n, most_down, most_right, static_cast<double>(c.columns) * seen, c.in, c.panel_in());
  const double space_size =
      static_cast<double>((most_down + cut.bands - 1) / cut.bands - 1 + c.reach_down(kernel_down)) *
      (most_right - 1 + c.reach_right(kernel_right)) * seen * cut.most_images(c.n);
  const Memory space = memory(space_size * workers(pool, cut.tasks()));
  if (!packed || !space) return no_memory();
  const auto kernel_of = [&](const Phase& a, const Phase& b) {
    return packed.get() + (a.before * c.kernel_width + a.kernel * b.before) * cell_size;
  };
  parallel(pool, down * right, [&](int64_t task, int64_t) {
    const Phase a = row_phase(task / right), b = column_phase(task % right);
    float* to = kernel_of(a, b);
    for (int64_t k = 0; k < a.kernel; k++)
      for (int64_t l = 0; l < b.kernel; l++, to += cell_size) {
        const float* from = w.typed_data() + ((a.last - k * c.stride_down) * c.kernel_width + b.last -
                                              l * c.stride_right) * cell_size;
        if (c.depthwise) {
          std::copy_n(from, cell_size, to);
          continue;
        }
        for (int64_t g = 0; g < c.groups; g++)
          for (int64_t o = 0; o < c.group_out; o += 16)  // a block at a time, for the cache
            for (int64_t i = 0; i < c.group_in; i++)
              for (int64_t q = o; q < std::min(o + 16, c.group_out); q++)
                to[q * c.in + g * c.group_in + i] = from[i * c.out + g * c.group_out + q];
      }
  });
  parallel(pool, cut.tasks(), [&](int64_t number, int64_t worker) {
    const Task task(cut, number, c.n, c.in);
    const int64_t first = c.depthwise ? task.channel : c.groups > 1 ? task.panel * c.group_out : 0;
    const Picture picture(y.typed_data(), c.rows, c.columns, c.out, first,
                          c.depthwise ? task.end_channel - first : c.group_out);
    float* own = space.get() + static_cast<int64_t>(space_size) * worker;
    for (int64_t offset_down = 0; offset_down < down; offset_down++)
      for (int64_t offset_right = 0; offset_right < right; offset_right++) {
        const Phase a = row_phase(offset_down), b = column_phase(offset_right);
        const int64_t from = a.cells * task.band / cut.bands, to = a.cells * (task.band + 1) / cut.bands;
        if (from == to) continue;
        Windows in{y.typed_data(), 0, 0, 0};
        if (a.kernel && b.kernel)
          in = windows(picture, task, a.start + from, b.start, to - from - 1 + c.reach_down(a.kernel),
                       b.cells - 1 + c.reach_right(b.kernel), c.groups > 1 && in_one_run(c, b.kernel), own);
        Plane p{};
        p.images = task.end_image - task.image, p.rows = to - from, p.columns = b.cells;
        set_kernel(p, c, in, b.kernel ? a.kernel : 0, b.kernel, c.group_out);
        p.pixel = in.pixel, p.next_row = in.row;
        p.y_pixel = c.stride_right * c.in, p.y_row = c.stride_down * c.width * c.in, p.y_image = c.x_size();
        p.channels = c.in;
        float* cell = x->typed_data() + task.image * c.x_size() + (offset_down * c.width + offset_right) * c.in;
        (c.depthwise ? processor.depthwise : processor.forward)(p, in.start, kernel_of(a, b), cell + from * p.y_row,
                                                                task.channel, task.end_channel);
      }
  });
  return ffi::Error::Success();
}

static ffi::Error weight_gradient(ffi::ThreadPool pool, Array x, Array y, Result w, Sizes stride, Sizes padding,
                                  Sizes dilation, int64_t groups) {
  const auto sizes =
      convolution(x.dimensions(), w->dimensions(), y.dimensions(), {stride, padding, dilation, groups});
  if (sizes.has_error()) return sizes.error();
  const Convolution c = *sizes;
  const int64_t size = c.w_size();
  if (size == 0) return ffi::Error::Success();
  if (c.n * c.y_size() == 0) {
    std::memset(w->typed_data(), 0, size * sizeof(float));
    return ffi::Error::Success();
  }
  // Batches of images have sums of their own, added up in order at the end: up to 16, and some 4 Mi floats in all.
  // Where that makes few tasks, the rows of the kernel and panels of its channels are tasks too, and share a sum.
  const int64_t batches = std::clamp<int64_t>((int64_t{4} << 20) / size, 1, std::min<int64_t>(c.n, 16));
  const int64_t row_tasks = batches < 16 ? c.kernel_height : 1;
  const int64_t width = c.panel_out() ? c.panel_out() : batches < 16 ? 64 : c.out, panels = (c.out + width - 1) / width;
  const int64_t tasks = batches * row_tasks * panels, kernel_rows = c.kernel_height / row_tasks;
  // Bands of rows, or a few small images, whose pixels stay in the first-level cache while the tiles go over them.
  const int64_t fitting = c.depthwise ? 65536 / (c.columns * c.out)
                                      : 6144 / (c.columns * std::min<int64_t>(c.group_out, 64));
  const int64_t band = std::clamp<int64_t>(fitting, 1, c.rows), together = std::max<int64_t>(fitting / c.rows, 1);
  const int64_t columns = (c.columns - 1) * c.stride_right + c.reach_right(c.kernel_width);
  const int64_t seen = c.depthwise ? std::min(width, c.in) : c.group_in;
  const double space_size =
      static_cast<double>((band - 1) * c.stride_down + c.reach_down(kernel_rows)) * columns * seen * together;
  const Memory space = memory(space_size * workers(pool, tasks)), sums = memory(size * (batches - 1));
  if (!space || !sums) return no_memory();
  const auto sum_of = [&](int64_t batch) { return batch ? sums.get() + size * (batch - 1) : w->typed_data(); };

  parallel(pool, batches, [&](int64_t batch, int64_t) { std::memset(sum_of(batch), 0, size * sizeof(float)); });
  parallel(pool, tasks, [&](int64_t number, int64_t worker) {
    const int64_t panel = number % panels, part = number / panels % row_tasks, batch = number / panels / row_tasks;
    const int64_t first_row = part * kernel_rows, end = c.n * (batch + 1) / batches;
    const int64_t channel = panel * width, end_channel = std::min(c.out, channel + width);
    const int64_t first = c.depthwise ? channel : c.groups > 1 ? panel * c.group_in : 0;
    const Picture picture(x.typed_data(), c.height, c.width, c.in, first,
                          c.depthwise ? end_channel - first : c.group_in);
    Task task{};
    for (task.image = c.n * batch / batches; task.image < end; task.image = task.end_image)
      for (int64_t from = 0; from < c.rows; from += band) {
        task.end_image = std::min(end, task.image + together);
        const int64_t rows = std::min(band, c.rows - from);
        const Windows in = windows(picture, task, from * c.stride_down + first_row * c.dilation_down - c.top, -c.left,
                                   (rows - 1) * c.stride_down + c.reach_down(kernel_rows), columns,
                                   c.groups > 1 && in_one_run(c, c.kernel_width),
                                   space.get() + static_cast<int64_t>(space_size) * worker);
        Plane p{};
        p.images = task.end_image - task.image, p.rows = rows, p.columns = c.columns;
        set_kernel(p, c, in, kernel_rows, c.kernel_width, c.group_in);
        p.pixel = c.stride_right * in.pixel, p.next_row = c.stride_down * in.row;
        p.y_pixel = p.channels = c.out, p.y_row = c.columns * c.out, p.y_image = c.y_size();
        (c.depthwise ? processor.depthwise_weight : processor.weight)(
            p, in.start, sum_of(batch) + first_row * c.kernel_width * c.group_in * c.out,
            y.typed_data() + task.image * c.y_size() + from * p.y_row, channel, end_channel);
      }
  });
  const int64_t slice = 4096;
  if (batches > 1)
    parallel(pool, (size + slice - 1) / slice, [&](int64_t task, int64_t) {
      const int64_t end = std::min(size, (task + 1) * slice);
      for (int64_t batch = 1; batch < batches; batch++) {
        const float* sum = sum_of(batch);
        for (int64_t i = task * slice; i < end; i++) w->typed_data()[i] += sum[i];
      }
    });
  return ffi::Error::Success();
}

}  // namespace fluxion

#define FLUXION_ARRAYS() \
  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<fluxion::Array>().Arg<fluxion::Array>()
#define FLUXION_CONVOLUTION(arrays) \
  arrays.Ret<fluxion::Array>().Attr<fluxion::Sizes>("stride").Attr<fluxion::Sizes>("padding") \
      .Attr<fluxion::Sizes>("dilation").Attr<int64_t>("groups")
XLA_FFI_DEFINE_HANDLER_SYMBOL(fluxion_conv_forward, fluxion::linear_forward, FLUXION_CONVOLUTION(FLUXION_ARRAYS()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fluxion_conv_biased, fluxion::biased_forward,
                              FLUXION_CONVOLUTION(FLUXION_ARRAYS().Arg<fluxion::Array>()).Attr<bool>("relu"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fluxion_conv_input_gradient, fluxion::input_gradient,
                              FLUXION_CONVOLUTION(FLUXION_ARRAYS()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fluxion_conv_weight_gradient, fluxion::weight_gradient,
                              FLUXION_CONVOLUTION(FLUXION_ARRAYS()));

// The instruction set in use, or an empty text where this processor has none that fits.
extern "C" const char* fluxion_processor() { return fluxion::processor.name ? fluxion::processor.name : ""; }
