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

// y[m][channels] = sum over r, t of x[m * pixel + r * row + t] * w[r * taps + t][channels], for a part of the r and t:
// the first part starts from the bias, the others add to y, the last one applies relu if it is asked for.
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
  for (int64_t r = 0; r < part.kernel_rows; r++, x += p.row, w += p.taps * p.channels) {
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

// The compiled tiles, by vectors and rows.
struct Tiles {
  void (*forward[WIDEST + 1][17])(const Plane&, const Part&, const float*, const float*, const float*, float*,
                                  Mask) = {};
  void (*weight[WIDEST + 1][17])(const Plane&, const float*, float*, const float*, Mask) = {};

  Tiles() { fill(std::make_integer_sequence<int, WIDEST>()); }

  template <int... V>
  void fill(std::integer_sequence<int, V...>) {
    (fill_rows<V + 1>(std::make_integer_sequence<int, tile_height(V + 1)>()), ...);
  }
  template <int VECTORS, int... R>
  void fill_rows(std::integer_sequence<int, R...>) {
    ((forward[VECTORS][R + 1] = forward_tile<VECTORS, R + 1>, weight[VECTORS][R + 1] = weight_tile<VECTORS, R + 1>),
     ...);
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
    const int64_t rows_at_once = std::max<int64_t>(most / std::max<int64_t>(p.taps, 1), 1);
    const int64_t parts = std::max<int64_t>((p.taps + most - 1) / most, 1);  // of each row of the kernel
    int64_t r = 0;
    do {  // once where the kernel has no rows: the sums are zero
      Part part;
      part.kernel_rows = std::min(rows_at_once, p.kernel_rows - r);
      for (int64_t cut = 0; cut < parts; cut++) {
        const int64_t tap = p.taps * cut / parts;
        part.taps = p.taps * (cut + 1) / parts - tap;
        part.first = r == 0 && cut == 0;
        part.last = r + part.kernel_rows == p.kernel_rows && cut == parts - 1;
        const float *cells = x + r * p.row + tap, *weights = w + (r * p.taps + tap) * p.channels + channel;
        for (int64_t image = 0; image < p.images; image++)
          for (int64_t i = 0; i < p.rows; i++)
            for_tiles(p.columns, tile_height(vectors), [&](int64_t j, int rows) {
              tiles.forward[vectors][rows](p, part, cells + image * p.next_image + i * p.next_row + j * p.pixel,
                                           weights, p.bias ? p.bias + channel : nullptr,
                                           y + image * p.y_image + i * p.y_row + j * p.y_pixel + channel, last);
            });
      }
      r += part.kernel_rows;
    } while (r < p.kernel_rows);
  });
}

static void weight_plane(const Plane& p, const float* x, float* w, const float* y, int64_t from, int64_t to) {
  for_panels(from, to, [&](int64_t channel, int vectors, Mask last) {
    for (int64_t r = 0; r < p.kernel_rows; r++)
      for_tiles(p.taps, tile_height(vectors), [&](int64_t t, int rows) {
        tiles.weight[vectors][rows](p, x + r * p.row + t, w + (r * p.taps + t) * p.channels + channel, y + channel,
                                    last);
      });
  });
}
