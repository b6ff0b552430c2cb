// The inner loops of a convolution, written once and compiled for each instruction set.
//
// vectors.h includes this file for kernels.cpp.
//
// A tile keeps its results in registers: WIDEST vectors of channels wide and as many rows high as registers allow.
// Only the last vector of a row of channels is read and written under a mask, so nothing beside an array is touched.

constexpr int WIDEST = LANES == 16 ? 4 : 2;
constexpr int tile_height(int vectors) {
  return LANES == 16 ? (vectors == 1 ? 16 : vectors == 2 ? 12 : vectors == 3 ? 8 : 6) : vectors == 1 ? 12 : 6;
}

// y[m][channels] = sum over k, t of x[m * pixel + line(k) + t] * w[k * taps + t][channels], for a part of the k and t,
// from the first line of which x is given: the first part starts from the bias, the others add to y, the last one applies relu if it is asked for.
template <int VECTORS, int ROWS>
TARGET static void forward_tile(const Plane& p, const Part& part, const float* x, const float* w, const float* bias,
                                float* y, Mask last) {
  Vector sum[ROWS][VECTORS];
  const float* start = part.first ? bias : y;
  const int64_t step = part.first ? 0 : p.y_pixel;
  if (start) {
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; m++) {
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS - 1; v++) sum[m][v] = load(start + m * step + v * LANES);
      sum[m][VECTORS - 1] = load_part(start + m * step + (VECTORS - 1) * LANES, last);
    }
  } else {
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) sum[m][v] = zero();
  }
  const int64_t wrap = p.row - (p.across - 1) * p.column;
  int64_t beside = part.beside;
  for (int64_t k = 0; k < part.lines; k++, w += p.taps * p.channels) {
    const float* weights = w;
    for (int64_t t = 0; t < part.taps; t++, weights += p.channels) {
      Vector weight[VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS - 1; v++) weight[v] = load(weights + v * LANES);
      weight[VECTORS - 1] = load_part(weights + (VECTORS - 1) * LANES, last);
#pragma GCC unroll 16
      for (int m = 0; m < ROWS; m++) {
        const Vector cell = spread(x[m * p.pixel + t]);
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) sum[m][v] = multiply_add(cell, weight[v], sum[m][v]);
      }
    }
    if (++beside < p.across) {
      x += p.column;
    } else {
      x += wrap;
      beside = 0;
    }
  }
  if (part.last && p.relu) {
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) sum[m][v] = maximum(zero(), sum[m][v]);
  }
#pragma GCC unroll 16
  for (int m = 0; m < ROWS; m++, y += p.y_pixel) {
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS - 1; v++) store(y + v * LANES, sum[m][v]);
    store_part(y + (VECTORS - 1) * LANES, sum[m][VECTORS - 1], last);
  }
}

// w[t][channels] += sum over pixels of x[pixel + t] * y[pixel][channels], for ROWS values of t
template <int VECTORS, int ROWS>
TARGET static void weight_tile(const Plane& p, const float* x, float* w, const float* y, Mask last) {
  Vector sum[ROWS][VECTORS];
#pragma GCC unroll 16
  for (int t = 0; t < ROWS; t++) {
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS - 1; v++) sum[t][v] = load(w + t * p.channels + v * LANES);
    sum[t][VECTORS - 1] = load_part(w + t * p.channels + (VECTORS - 1) * LANES, last);
  }
  for (int64_t line = 0; line < p.images * p.rows; line++) {
    const int64_t image = line / p.rows, i = line % p.rows;
    const float *cell = x + image * p.next_image + i * p.next_row, *gradient = y + image * p.y_image + i * p.y_row;
    for (int64_t j = 0; j < p.columns; j++, cell += p.pixel, gradient += p.y_pixel) {
      Vector channels[VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS - 1; v++) channels[v] = load(gradient + v * LANES);
      channels[VECTORS - 1] = load_part(gradient + (VECTORS - 1) * LANES, last);
#pragma GCC unroll 16
      for (int t = 0; t < ROWS; t++) {
        const Vector factor = spread(cell[t]);
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) sum[t][v] = multiply_add(factor, channels[v], sum[t][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < ROWS; t++) {
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS - 1; v++) store(w + t * p.channels + v * LANES, sum[t][v]);
    store_part(w + t * p.channels + (VECTORS - 1) * LANES, sum[t][VECTORS - 1], last);
  }
}

// For kernels of one channel in for each channel out, a vector of channels at a time:
// y[m][channels] = bias + sum over k of x[m * pixel + line(k)][channels] * w[k][channels]
template <int ROWS>
TARGET static void depthwise_tile(const Plane& p, const float* x, const float* w, const float* bias, float* y,
                                  Mask mask) {
  const Vector start = bias ? load_part(bias, mask) : zero();
  Vector sum[ROWS];
#pragma GCC unroll 16
  for (int m = 0; m < ROWS; m++) sum[m] = start;
  for (int64_t k = 0; k < p.lines; k += p.across, x += p.row) {
    const float* cell = x;
    for (int64_t s = 0; s < p.across; s++, cell += p.column, w += p.channels) {
      const Vector weight = load_part(w, mask);
#pragma GCC unroll 16
      for (int m = 0; m < ROWS; m++) sum[m] = multiply_add(load_part(cell + m * p.pixel, mask), weight, sum[m]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < ROWS; m++) store_part(y + m * p.y_pixel, p.relu ? maximum(zero(), sum[m]) : sum[m], mask);
}

// w[k][channels] += sum over pixels of x[pixel + line(k)][channels] * y[pixel][channels], for ROWS lines from `line` on
template <int ROWS>
TARGET static void depthwise_weight_tile(const Plane& p, int64_t line, const float* x, float* w, const float* y,
                                         Mask mask) {
  Vector sum[ROWS];
  int64_t at[ROWS];
#pragma GCC unroll 16
  for (int k = 0; k < ROWS; k++) sum[k] = load_part(w + k * p.channels, mask), at[k] = p.line(line + k);
  for (int64_t image = 0; image < p.images; image++)
    for (int64_t i = 0; i < p.rows; i++) {
      const float *cell = x + image * p.next_image + i * p.next_row, *gradient = y + image * p.y_image + i * p.y_row;
      for (int64_t j = 0; j < p.columns; j++, cell += p.pixel, gradient += p.y_pixel) {
        const Vector channels = load_part(gradient, mask);
#pragma GCC unroll 16
        for (int k = 0; k < ROWS; k++) sum[k] = multiply_add(load_part(cell + at[k], mask), channels, sum[k]);
      }
    }
#pragma GCC unroll 16
  for (int k = 0; k < ROWS; k++) store_part(w + k * p.channels, sum[k], mask);
}

// The compiled tiles, by vectors and rows.
constexpr int DEPTHWISE_ROWS = 12;
struct Tiles {
  void (*forward[WIDEST + 1][17])(const Plane&, const Part&, const float*, const float*, const float*, float*,
                                  Mask) = {};
  void (*weight[WIDEST + 1][17])(const Plane&, const float*, float*, const float*, Mask) = {};
  void (*depthwise[17])(const Plane&, const float*, const float*, const float*, float*, Mask) = {};
  void (*depthwise_weight[17])(const Plane&, int64_t, const float*, float*, const float*, Mask) = {};

  Tiles() {
    fill(std::make_integer_sequence<int, WIDEST>());
    fill_depthwise(std::make_integer_sequence<int, DEPTHWISE_ROWS>());
  }

  template <int... V>
  void fill(std::integer_sequence<int, V...>) {
    (fill_rows<V + 1>(std::make_integer_sequence<int, tile_height(V + 1)>()), ...);
  }
  template <int VECTORS, int... R>
  void fill_rows(std::integer_sequence<int, R...>) {
    ((forward[VECTORS][R + 1] = forward_tile<VECTORS, R + 1>, weight[VECTORS][R + 1] = weight_tile<VECTORS, R + 1>),
     ...);
  }
  template <int... R>
  void fill_depthwise(std::integer_sequence<int, R...>) {
    ((depthwise[R + 1] = depthwise_tile<R + 1>, depthwise_weight[R + 1] = depthwise_weight_tile<R + 1>), ...);
  }
};
static const Tiles tiles;

// Calls run(first channel, vectors, mask of the last vector) for panels of about equal width.
template <class Run>
static void for_panels(int64_t from, int64_t to, Run&& run) {
  int64_t vectors = (to - from + LANES - 1) / LANES;
  for (int64_t panels = (vectors + WIDEST - 1) / WIDEST; panels > 0; panels--) {
    const int64_t wide = (vectors + panels - 1) / panels;
    const int64_t end = std::min(to, from + wide * LANES);
    run(from, static_cast<int>(wide), first(static_cast<int>(end - from - (wide - 1) * LANES)));
    from = end;
    vectors -= wide;
  }
}

// Calls run(start, rows) for `total` rows cut into tiles of about equal height.
template <class Run>
static void for_tiles(int64_t total, int most, Run&& run) {
  const int64_t count = (total + most - 1) / most;
  for (int64_t k = 0, start = 0; k < count; k++) {
    const int64_t end = total * (k + 1) / count;
    run(start, static_cast<int>(end - start));
    start = end;
  }
}

// The channels from..to of a plane. A part of the kernel at a time, so that its weights stay in the first-level cache
// while the tiles go over the plane.
static void forward_plane(const Plane& p, const float* x, const float* w, float* y, int64_t from, int64_t to) {
  for_panels(from, to, [&](int64_t channel, int vectors, Mask last) {
    const int64_t most = PART / (vectors * LANES);  // taps at a time
    const int64_t lines_at_once = std::max<int64_t>(most / std::max<int64_t>(p.taps, 1), 1);
    const int64_t parts = std::max<int64_t>((p.taps + most - 1) / most, 1);  // of each line
    int64_t k = 0;
    do {  // once where the kernel has no lines: the sums are zero
      Part part;
      part.beside = k % p.across;
      part.lines = std::min(lines_at_once, p.lines - k);
      for (int64_t cut = 0; cut < parts; cut++) {
        const int64_t tap = p.taps * cut / parts;
        part.taps = p.taps * (cut + 1) / parts - tap;
        part.first = k == 0 && cut == 0;
        part.last = k + part.lines == p.lines && cut == parts - 1;
        const float *cells = x + p.line(k) + tap, *weights = w + (k * p.taps + tap) * p.channels + channel;
        for (int64_t image = 0; image < p.images; image++)
          for (int64_t i = 0; i < p.rows; i++)
            for_tiles(p.columns, tile_height(vectors), [&](int64_t j, int rows) {
              tiles.forward[vectors][rows](p, part, cells + image * p.next_image + i * p.next_row + j * p.pixel,
                                           weights, p.bias ? p.bias + channel : nullptr,
                                           y + image * p.y_image + i * p.y_row + j * p.y_pixel + channel, last);
            });
      }
      k += part.lines;
    } while (k < p.lines);
  });
}

static void weight_plane(const Plane& p, const float* x, float* w, const float* y, int64_t from, int64_t to) {
  for_panels(from, to, [&](int64_t channel, int vectors, Mask last) {
    for (int64_t k = 0; k < p.lines; k++)
      for_tiles(p.taps, tile_height(vectors), [&](int64_t t, int rows) {
        tiles.weight[vectors][rows](p, x + p.line(k) + t, w + (k * p.taps + t) * p.channels + channel, y + channel,
                                    last);
      });
  });
}

// The same for kernels of one channel in for each channel out. x starts at channel `from`.
static void depthwise_plane(const Plane& p, const float* x, const float* w, float* y, int64_t from, int64_t to) {
  for (int64_t image = 0; image < p.images; image++)
    for (int64_t i = 0; i < p.rows; i++)
      for (int64_t channel = from; channel < to; channel += LANES)
        for_tiles(p.columns, DEPTHWISE_ROWS, [&](int64_t j, int rows) {
          tiles.depthwise[rows](p, x + image * p.next_image + i * p.next_row + j * p.pixel + channel - from,
                                w + channel, p.bias ? p.bias + channel : nullptr,
                                y + image * p.y_image + i * p.y_row + j * p.y_pixel + channel,
                                first(std::min<int64_t>(LANES, to - channel)));
        });
}

static void depthwise_weight_plane(const Plane& p, const float* x, float* w, const float* y, int64_t from,
                                   int64_t to) {
  for (int64_t channel = from; channel < to; channel += LANES)
    for_tiles(p.lines, DEPTHWISE_ROWS, [&](int64_t k, int rows) {
      tiles.depthwise_weight[rows](p, k, x + channel - from, w + k * p.channels + channel, y + channel,
                                   first(std::min<int64_t>(LANES, to - channel)));
    });
}
