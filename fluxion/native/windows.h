// The inner loops of max-pooling, written once and compiled for each instruction set.
//
// vectors.h includes this file for pooling.cpp.
//
// All three go along one row of pixels. The cells of a window are numbered row by row; a place is such a number.

// Calls run(channel, mask, bytes) for the channels, LANES at a time.
template <class Run>
INLINE void for_channels(int64_t channels, Run&& run) {
  int64_t channel = 0;
  for (; channel + LANES <= channels; channel += LANES) run(channel, first(LANES), LANES);
  const int rest = static_cast<int>(channels - channel);
  if (rest) run(channel, first(rest), rest);
}

INLINE Vector load_places(const uint8_t* p, int count) {
  if (count == LANES) return from_bytes(p);
  alignas(16) uint8_t bytes[16] = {};
  std::memcpy(bytes, p, count);
  return from_bytes(bytes);
}

INLINE void store_places(uint8_t* p, Vector places, int count) {
  if (count == LANES) return to_bytes(p, places);
  alignas(16) uint8_t bytes[16];
  to_bytes(bytes, places);
  std::memcpy(p, bytes, count);
}

// The largest value of each window of row `i`, and the first place that holds it. NaN is larger than all numbers.
TARGET static void pool_row(const Pooling& p, const float* x, int64_t i, float* y, uint8_t* place) {
  const Range rows = p.cells_down(i);
  for (int64_t j = 0; j < p.columns; j++, y += p.channels, place += p.channels) {
    const Range cells = p.cells_right(j);
    const int64_t top = i * p.stride_down - p.top, left = j * p.stride_right - p.left;
    for_channels(p.channels, [&](int64_t channel, Mask mask, int count) INLINE_LAMBDA {
      const float* corner = x + ((top + rows.from) * p.width + left) * p.channels + channel;
      Vector best = load_part(corner + cells.from * p.channels, mask);
      Vector at = spread(static_cast<float>(rows.from * p.kernel_width + cells.from));
      int64_t s = cells.from + 1;
      for (int64_t r = rows.from; r < rows.to; r++, corner += p.width * p.channels, s = cells.from)
        for (; s < cells.to; s++) {
          const Vector value = load_part(corner + s * p.channels, mask);
          const Choice better = beyond(value, best);
          best = choose(better, value, best);
          at = choose(better, spread(static_cast<float>(r * p.kernel_width + s)), at);
        }
      store_part(y + channel, best, mask);
      store_places(place + channel, at, count);
    });
  }
}

// What stands in `x` at the place of each window of row `i`.
TARGET static void pick_row(const Pooling& p, const float* x, int64_t i, const uint8_t* place, float* y) {
  const Range rows = p.cells_down(i);
  for (int64_t j = 0; j < p.columns; j++, y += p.channels, place += p.channels) {
    const Range cells = p.cells_right(j);
    const int64_t top = i * p.stride_down - p.top, left = j * p.stride_right - p.left;
    for_channels(p.channels, [&](int64_t channel, Mask mask, int count) INLINE_LAMBDA {
      const Vector at = load_places(place + channel, count);
      Vector found = zero();
      for (int64_t r = rows.from; r < rows.to; r++)
        for (int64_t s = cells.from; s < cells.to; s++)
          found = choose(same(at, spread(static_cast<float>(r * p.kernel_width + s))),
                         load_part(x + ((top + r) * p.width + left + s) * p.channels + channel, mask), found);
      store_part(y + channel, found, mask);
    });
  }
}

// Row `h` of `x`: the sum of `y` over the windows whose place is the cell. `right` holds the windows over each column.
TARGET static void place_row(const Pooling& p, const float* y, int64_t h, const uint8_t* place, const Range* right,
                             float* x) {
  const Range rows = p.windows_down(h);
  for (int64_t w = 0; w < p.width; w++, x += p.channels) {
    const Range columns = right[w];
    for_channels(p.channels, [&](int64_t channel, Mask mask, int count) INLINE_LAMBDA {
      Vector sum = zero();
      for (int64_t i = rows.from; i < rows.to; i++)
        for (int64_t j = columns.from; j < columns.to; j++) {
          const int64_t cell = (h + p.top - i * p.stride_down) * p.kernel_width + w + p.left - j * p.stride_right;
          const int64_t window = (i * p.columns + j) * p.channels + channel;
          const Choice here = same(load_places(place + window, count), spread(static_cast<float>(cell)));
          sum = add(sum, choose(here, load_part(y + window, mask), zero()));
        }
      store_part(x + channel, sum, mask);
    });
  }
}
