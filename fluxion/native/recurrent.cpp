// Whole sequences of a long short-term memory in float32 for x86 processors, called by XLA on its own threads.
//
// Sequences are independent of each other, so a task takes some of them through all steps, and nothing waits for
// anything between the steps. A result is the same to the bit however the batch is cut.

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "memory.h"
#include "parallel.h"

namespace ffi = xla::ffi;

namespace fluxion {
namespace {

// Some sequences at one step. Their states are rows of `width` floats: of the units, and of zeros up to whole vectors.
struct Rows {
  int64_t first, t, direction;  // direction: 1 or -1, to the step that comes next
  float *h, *next, *c;
};

// Arrays are (batch, steps, ...), steps of several gates have them behind each other.
struct Sizes {
  int64_t batch, steps, inputs, units, input_width, width;
  bool reverse = false;
  int64_t place(const Rows& at, int64_t row) const { return (at.first + row) * steps + at.t; }
};

struct Lstm : Sizes {
  const float *x, *h, *c, *packed;
  const bool* keep;        // null: all steps count
  float *hs, *cs, *gates;  // gates null: none are kept, and cs is that of the last step
};

// h and c are those before the first step. The slopes, gradients of the sums, may lie in place of the gates.
struct LstmBack : Sizes {
  const float *x, *h, *c, *hs, *cs, *gates, *packed, *packed_inputs, *d_hs, *d_c;
  const bool* keep;
  float *slopes, *d_weight, *d_recurrent, *d_bias, *d_x, *d_h0, *d_c0;  // d_x null: not asked for
};

}  // namespace
}  // namespace fluxion

#define LOOPS "sequences.h"
#include "vectors.h"

namespace fluxion {
namespace {

// The loops of this processor, and how many floats its vectors hold.
struct Processor {
  int64_t lanes = chosen(avx512::LANES, avx2::LANES);
  decltype(&avx2::lstm_forward) forward = chosen(avx512::lstm_forward, avx2::lstm_forward);
  decltype(&avx2::lstm_back) back = chosen(avx512::lstm_back, avx2::lstm_back);
  decltype(&avx2::weight_gradients) weights = chosen(avx512::weight_gradients, avx2::weight_gradients);
};
const Processor processor;

ffi::Error wrong(const char* what) {
  return ffi::Error::InvalidArgument(std::string("fluxion recurrent layer: ") + what);
}

ffi::Error no_memory() {
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "fluxion recurrent layer: out of memory for working space");
}

using Array = ffi::Buffer<ffi::F32>;
using Kept = ffi::Buffer<ffi::PRED>;
using Result = ffi::ResultBuffer<ffi::F32>;
using Shape = ffi::Span<const int64_t>;

bool is(const Shape& shape, std::initializer_list<int64_t> sizes) {
  return shape.size() == sizes.size() && std::equal(sizes.begin(), sizes.end(), shape.begin());
}

int64_t rounded(int64_t size, int64_t to) { return (size + to - 1) / to * to; }

// How many sequences a task takes: enough for high tiles, few enough for their states to stay in the cache, and two
// tasks for each thread, so that one that is held up is helped.
int64_t rows_of_task(const ffi::ThreadPool& pool, int64_t batch) {
  const int64_t threads = workers(pool, batch), tasks = threads == 1 ? 1 : 2 * threads;
  return std::clamp<int64_t>((batch + tasks - 1) / tasks, 1, 48);
}

// Runs all the sequences through `run`, with `floats` of working space for each sequence of a task.
template <class Arrays>
ffi::Error in_tasks(ffi::ThreadPool& pool, const Arrays& s, int64_t floats,
                    void (*run)(const Arrays&, int64_t, int64_t, float*)) {
  const int64_t rows = rows_of_task(pool, s.batch), tasks = (s.batch + rows - 1) / rows;
  const Memory space = memory(static_cast<double>(workers(pool, tasks)) * rows * floats);
  if (!space) return no_memory();
  parallel(pool, tasks, [&](int64_t task, int64_t worker) {
    const int64_t first = task * rows;
    run(s, first, std::min(rows, s.batch - first), space.get() + worker * rows * floats);
  });
  return ffi::Error::Success();
}

// The sizes, or an error where the arrays do not belong together.
ffi::ErrorOr<Sizes> sizes_of(const Array& weight, const Array& recurrent, const Array& x, const Array& h,
                             const Array& c, const Kept& keep, bool reverse) {
  if (!processor.forward) return ffi::Unexpected(wrong("this processor has neither AVX2 with FMA nor AVX-512"));
  if (x.dimensions().size() != 3 || recurrent.dimensions().size() != 2)
    return ffi::Unexpected(wrong("expected an x (batch, steps, inputs) and a weight (units, gates)"));
  const int64_t batch = x.dimensions()[0], steps = x.dimensions()[1], inputs = x.dimensions()[2];
  const int64_t units = recurrent.dimensions()[0];
  constexpr int64_t most = int64_t{1} << 31;
  for (int64_t size : {batch, steps, inputs, units})
    if (size < 1 || size > most) return ffi::Unexpected(wrong("a size is out of range"));
  if (!is(weight.dimensions(), {inputs, 4 * units}) || !is(recurrent.dimensions(), {units, 4 * units}) ||
      !is(h.dimensions(), {batch, units}) || !is(c.dimensions(), {batch, units}) ||
      !(is(keep.dimensions(), {batch, steps}) || is(keep.dimensions(), {batch, 0})))
    return ffi::Unexpected(wrong("sizes of the arrays differ"));
  const int64_t lanes = processor.lanes;
  return Sizes{batch, steps, inputs, units, rounded(inputs, lanes), rounded(units, lanes), reverse};
}

ffi::Error lstm_forward(ffi::ThreadPool pool, Array weight, Array recurrent, Array bias, Array x, Array h, Array c,
                        Kept keep, Result hs, Result cs, Result gates, bool reverse) {
  const auto sizes = sizes_of(weight, recurrent, x, h, c, keep, reverse);
  if (sizes.has_error()) return sizes.error();
  Lstm s{*sizes};
  const bool kept = gates->element_count() > 0;
  if (!is(bias.dimensions(), {4 * s.units}) || !is(hs->dimensions(), {s.batch, s.steps, s.units}) ||
      !is(cs->dimensions(), {s.batch, kept ? s.steps : 1, s.units}) ||
      !is(gates->dimensions(), {s.batch, kept ? s.steps : 0, 4 * s.units}))
    return wrong("sizes of the results differ");

  // Bias and weights in panels of the four gates of some units: each step of a tile reads on where the last one ended.
  const int64_t lanes = processor.lanes, depth = 1 + s.inputs + s.units;
  const Memory packed = memory(static_cast<double>(s.width) * depth * 4);
  if (!packed) return no_memory();
  parallel(pool, s.width / lanes, [&](int64_t panel, int64_t) {
    const int64_t unit = panel * lanes, count = std::min(lanes, s.units - unit);
    float* to = packed.get() + unit * depth * 4;
    const auto pack = [&](const float* rows, int64_t number) {
      for (int64_t k = 0; k < number * 4; k++, to += lanes) {  // row by row, gate by gate
        const float* from = rows + k * s.units + unit;
        for (int64_t u = 0; u < lanes; u++) to[u] = u < count ? from[u] : 0.0f;
      }
    };
    pack(bias.typed_data(), 1), pack(weight.typed_data(), s.inputs), pack(recurrent.typed_data(), s.units);
  });
  s.x = x.typed_data(), s.h = h.typed_data(), s.c = c.typed_data(), s.packed = packed.get();
  s.keep = keep.element_count() ? keep.typed_data() : nullptr;
  s.hs = hs->typed_data(), s.cs = cs->typed_data(), s.gates = kept ? gates->typed_data() : nullptr;
  return in_tasks(pool, s, 3 * s.width, processor.forward);
}

// A transposed weight in panels of its rows, each with a line for every unit of every gate.
void pack_transposed(ffi::ThreadPool& pool, const Sizes& s, const float* weight, int64_t rows, float* packed) {
  const int64_t panel_width = 4 * processor.lanes, depth = 4 * s.width;
  parallel(pool, (rows + panel_width - 1) / panel_width * 4, [&](int64_t task, int64_t) {
    const int64_t panel = task / 4, gate = task % 4;
    float* to = packed + (panel * depth + gate * s.width) * panel_width;
    for (int64_t u = 0; u < s.width; u += 16)  // a block at a time, for the cache
      for (int64_t k = 0; k < panel_width; k++) {
        const int64_t row = panel * panel_width + k;
        const float* from = weight + (row * 4 + gate) * s.units;
        for (int64_t q = u; q < std::min(u + 16, s.width); q++)
          to[q * panel_width + k] = row < rows && q < s.units ? from[q] : 0.0f;
      }
  });
}

ffi::Error lstm_back(ffi::ThreadPool pool, Array weight, Array recurrent, Array x, Array h, Array c, Kept keep,
                     Array hs, Array cs, Array gates, Array d_hs, Array d_c, Result slopes, Result d_weight,
                     Result d_recurrent, Result d_bias, Result d_x, Result d_h0, Result d_c0, bool reverse) {
  const auto sizes = sizes_of(weight, recurrent, x, h, c, keep, reverse);
  if (sizes.has_error()) return sizes.error();
  LstmBack s{*sizes};
  const auto sequence = {s.batch, s.steps, s.units}, all = {s.batch, s.steps, 4 * s.units};
  const auto state = {s.batch, s.units};
  const bool of_x = d_x->element_count() > 0;
  if (!is(hs.dimensions(), sequence) || !is(cs.dimensions(), sequence) || !is(d_hs.dimensions(), sequence) ||
      !is(gates.dimensions(), all) || !is(slopes->dimensions(), all) || !is(d_c.dimensions(), state) ||
      !is(d_h0->dimensions(), state) || !is(d_c0->dimensions(), state) || !is(d_bias->dimensions(), {4 * s.units}) ||
      !is(d_weight->dimensions(), {s.inputs, 4 * s.units}) || !is(d_recurrent->dimensions(), {s.units, 4 * s.units}) ||
      !is(d_x->dimensions(), {s.batch, of_x ? s.steps : 0, s.inputs}))
    return wrong("sizes of the results differ");

  const int64_t panel_width = 4 * processor.lanes;
  const auto room = [&](int64_t rows) { return static_cast<double>(rounded(rows, panel_width)) * 4 * s.width; };
  const Memory packed = memory(room(s.units)), packed_inputs = memory(of_x ? room(s.inputs) : 0.0);
  if (!packed || !packed_inputs) return no_memory();
  pack_transposed(pool, s, recurrent.typed_data(), s.units, packed.get());
  if (of_x) pack_transposed(pool, s, weight.typed_data(), s.inputs, packed_inputs.get());
  s.x = x.typed_data(), s.h = h.typed_data(), s.c = c.typed_data(), s.hs = hs.typed_data(), s.cs = cs.typed_data();
  s.gates = gates.typed_data(), s.packed = packed.get(), s.packed_inputs = packed_inputs.get();
  s.d_hs = d_hs.typed_data(), s.d_c = d_c.typed_data();
  s.keep = keep.element_count() ? keep.typed_data() : nullptr;
  s.slopes = slopes->typed_data(), s.d_x = of_x ? d_x->typed_data() : nullptr;
  s.d_weight = d_weight->typed_data(), s.d_recurrent = d_recurrent->typed_data(), s.d_bias = d_bias->typed_data();
  s.d_h0 = d_h0->typed_data(), s.d_c0 = d_c0->typed_data();
  const ffi::Error done = in_tasks(pool, s, 6 * s.width + s.input_width, processor.back);
  if (done.failure()) return done;
  parallel(pool, (4 * s.units + panel_width - 1) / panel_width,
           [&](int64_t panel, int64_t) { processor.weights(s, panel * panel_width); });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace fluxion

#define FLUXION_ARRAY .Arg<fluxion::Array>()
#define FLUXION_RESULT .Ret<fluxion::Array>()
XLA_FFI_DEFINE_HANDLER_SYMBOL(fluxion_lstm_forward, fluxion::lstm_forward,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
                                  FLUXION_ARRAY FLUXION_ARRAY FLUXION_ARRAY FLUXION_ARRAY FLUXION_ARRAY FLUXION_ARRAY
                                  .Arg<fluxion::Kept>()
                                  FLUXION_RESULT FLUXION_RESULT FLUXION_RESULT
                                  .Attr<bool>("reverse"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(fluxion_lstm_back, fluxion::lstm_back,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
                                  FLUXION_ARRAY FLUXION_ARRAY FLUXION_ARRAY FLUXION_ARRAY FLUXION_ARRAY
                                  .Arg<fluxion::Kept>()
                                  FLUXION_ARRAY FLUXION_ARRAY FLUXION_ARRAY FLUXION_ARRAY FLUXION_ARRAY
                                  FLUXION_RESULT FLUXION_RESULT FLUXION_RESULT FLUXION_RESULT FLUXION_RESULT
                                  FLUXION_RESULT FLUXION_RESULT
                                  .Attr<bool>("reverse"));
