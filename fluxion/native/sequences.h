// The inner loops of the recurrent networks, written once and compiled for each instruction set.
//
// vectors.h includes this file for recurrent.cpp.
//
// A tile is up to HEIGHT sequences of a batch times WIDTH vectors of LANES columns of a packed weight, kept in
// registers while the product runs over `depth`. Each sum is taken in the same order whatever the tile's height.

constexpr int HEIGHT = LANES == 16 ? 6 : 2;  // rows of a tile

// exp(x), for x up to 89, where it is infinite; below -87 it stays exp(-87). Source of the numbers: Cephes.
INLINE Vector exponential(Vector x) {
  x = minimum(spread(89.0f), maximum(spread(-87.0f), x));  // NaN passes: the second argument wins
  const Vector n = nearest(multiply(x, spread(1.44269504088896341f)));
  Vector r = multiply_add(n, spread(-0.693359375f), x);
  r = multiply_add(n, spread(2.12194440e-4f), r);
  Vector p = spread(1.9875691500e-4f);
  p = multiply_add(p, r, spread(1.3981999507e-3f));
  p = multiply_add(p, r, spread(8.3334519073e-3f));
  p = multiply_add(p, r, spread(4.1665795894e-2f));
  p = multiply_add(p, r, spread(1.6666665459e-1f));
  p = multiply_add(p, r, spread(5.0000001201e-1f));
  p = multiply_add(multiply(r, r), p, add(r, spread(1.0f)));
  return scale(p, n);
}

INLINE Vector sigmoid(Vector x) {
  const Vector one = spread(1.0f);
  return divide(one, add(one, exponential(subtract(zero(), x))));
}

// The quotient of polynomials that XLA and Eigen use.
INLINE Vector tangent(Vector x) {
  x = minimum(spread(7.99881172180175781f), maximum(spread(-7.99881172180175781f), x));
  const Vector square = multiply(x, x);
  Vector p = spread(-2.76076847742355e-16f);
  p = multiply_add(p, square, spread(2.00018790482477e-13f));
  p = multiply_add(p, square, spread(-8.60467152213735e-11f));
  p = multiply_add(p, square, spread(5.12229709037114e-08f));
  p = multiply_add(p, square, spread(1.48572235717979e-05f));
  p = multiply_add(p, square, spread(6.37261928875436e-04f));
  p = multiply_add(p, square, spread(4.89352455891786e-03f));
  Vector q = spread(1.19825839466702e-06f);
  q = multiply_add(q, square, spread(1.18534705686654e-04f));
  q = multiply_add(q, square, spread(2.26843463243900e-03f));
  q = multiply_add(q, square, spread(4.89352518554385e-03f));
  return divide(multiply(x, p), q);
}

// sum[m][v] += sum over k of x[m * step + k] * packed[k][v]
template <int WIDTH, int ROWS>
INLINE void product(Vector (&sum)[ROWS][WIDTH], const float* x, int64_t step, const float* packed, int64_t depth) {
  for (int64_t k = 0; k < depth; k++, packed += WIDTH * LANES) {
    Vector weight[WIDTH];
#pragma GCC unroll 4
    for (int v = 0; v < WIDTH; v++) weight[v] = load(packed + v * LANES);
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; m++) {
      const Vector cell = spread(x[m * step + k]);
#pragma GCC unroll 4
      for (int v = 0; v < WIDTH; v++) sum[m][v] = multiply_add(cell, weight[v], sum[m][v]);
    }
  }
}

// One step of `ROWS` sequences from `row` on, for the units from `unit` on: all four gates of them, then the state.
template <int ROWS>
TARGET static void lstm_step(const Lstm& s, const Rows& at, int64_t row, int64_t unit, Mask last) {
  const float* packed = s.packed + unit * 4 * (1 + s.inputs + s.units);
  Vector sum[ROWS][4];
#pragma GCC unroll 8
  for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) sum[m][v] = load(packed + v * LANES);
  packed += 4 * LANES;
  product<4, ROWS>(sum, s.x + s.place(at, row) * s.inputs, s.steps * s.inputs, packed, s.inputs);
  product<4, ROWS>(sum, at.h + row * s.width, s.width, packed + s.inputs * 4 * LANES, s.units);
#pragma GCC unroll 8
  for (int m = 0; m < ROWS; m++) {
    const int64_t place = s.place(at, row + m), cell = (row + m) * s.width + unit;
    const Vector i = sigmoid(sum[m][0]), f = sigmoid(sum[m][1]), g = tangent(sum[m][2]), o = sigmoid(sum[m][3]);
    Vector c = load(at.c + cell), h = load(at.h + cell);
    if (!s.keep || s.keep[place]) {
      c = multiply_add(f, c, multiply(i, g));
      h = multiply(o, tangent(c));
    }
    store(at.c + cell, c);
    store(at.next + cell, h);
    store_part(s.hs + place * s.units + unit, h, last);
    if (s.gates) {
      const Vector gates[4] = {i, f, g, o};
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) store_part(s.gates + place * 4 * s.units + v * s.units + unit, gates[v], last);
      store_part(s.cs + place * s.units + unit, c, last);
    }
  }
}

// The gradient of the sums of one step, from those of the state after it in `h` and `c`, which become those before it
// but for the product with the weight.
TARGET static void lstm_slopes(const LstmBack& s, const Rows& at, const float* before, int64_t row, int64_t unit,
                               Mask last) {
  const int64_t place = s.place(at, row), cell = row * s.width + unit;
  const int64_t lines = s.width * 4 * row + unit;
  const float* own = s.gates + place * 4 * s.units + unit;
  float* to = s.slopes + place * 4 * s.units + unit;
  const Vector one = spread(1.0f);
  const Vector dh = add(load(at.h + cell), load_part(s.d_hs + place * s.units + unit, last));
  Vector slopes[4] = {zero(), zero(), zero(), zero()};
  if (s.keep && !s.keep[place]) {
    store(at.h + cell, dh);
  } else {
    const Vector i = load_part(own, last), f = load_part(own + s.units, last);
    const Vector g = load_part(own + 2 * s.units, last), o = load_part(own + 3 * s.units, last);
    const Vector t = tangent(load_part(s.cs + place * s.units + unit, last));
    const Vector dc = multiply_add(multiply(dh, o), subtract(one, multiply(t, t)), load(at.c + cell));
    slopes[0] = multiply(multiply(dc, g), multiply(i, subtract(one, i)));
    slopes[1] = multiply(multiply(dc, load_part(before + unit, last)), multiply(f, subtract(one, f)));
    slopes[2] = multiply(multiply(dc, i), subtract(one, multiply(g, g)));
    slopes[3] = multiply(multiply(dh, t), multiply(o, subtract(one, o)));
    store(at.c + cell, multiply(dc, f));
    store(at.h + cell, zero());
  }
  for (int v = 0; v < 4; v++) {
    store_part(to + v * s.units, slopes[v], last);
    store(at.next + lines + v * s.width, slopes[v]);
    fetch(own + v * s.units + at.direction * 4 * s.units);
  }
}

// y[m] += x[m] @ packed for some rows of up to four vectors
template <int ROWS>
TARGET static void back_tile(float* y, int64_t y_step, const float* x, int64_t x_step, const float* packed,
                             int64_t depth, int vectors) {
  Vector sum[ROWS][4];
#pragma GCC unroll 8
  for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) sum[m][v] = v < vectors ? load(y + m * y_step + v * LANES) : zero();
  product<4, ROWS>(sum, x, x_step, packed, depth);
#pragma GCC unroll 8
  for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
      if (v < vectors) store(y + m * y_step + v * LANES, sum[m][v]);
}

// w[m][columns] += sum over n of x[n][k + m] * slopes[n][columns], for up to four vectors of columns
template <int ROWS>
TARGET static void weight_tile(float* w, int64_t step, const float* const* x, int64_t k, const float* slopes,
                               int64_t count, int vectors, Mask last) {
  const auto part = [&](int v) { return v < vectors - 1 ? first(LANES) : v == vectors - 1 ? last : first(0); };
  const Mask masks[4] = {part(0), part(1), part(2), part(3)};
  Vector sum[ROWS][4];
#pragma GCC unroll 8
  for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) sum[m][v] = load_part(w + m * step + v * LANES, masks[v]);
  for (int64_t n = 0; n < count; n++, slopes += step) {
    Vector slope[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) slope[v] = load_part(slopes + v * LANES, masks[v]);
    const float* own = x[n] + k;
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; m++) {
      const Vector factor = spread(own[m]);
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) sum[m][v] = multiply_add(factor, slope[v], sum[m][v]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) store_part(w + m * step + v * LANES, sum[m][v], masks[v]);
}

// The tiles by their height.
template <int... R>
static constexpr auto steps_of(std::integer_sequence<int, R...>) {
  return std::array<decltype(&lstm_step<1>), sizeof...(R)>{lstm_step<R + 1>...};
}
template <int... R>
static constexpr auto backs_of(std::integer_sequence<int, R...>) {
  return std::array<decltype(&back_tile<1>), sizeof...(R)>{back_tile<R + 1>...};
}
template <int... R>
static constexpr auto weights_of(std::integer_sequence<int, R...>) {
  return std::array<decltype(&weight_tile<1>), sizeof...(R)>{weight_tile<R + 1>...};
}
static constexpr auto lstm_steps = steps_of(std::make_integer_sequence<int, HEIGHT>());
static constexpr auto weight_tiles = weights_of(std::make_integer_sequence<int, HEIGHT>());
static constexpr auto back_tiles = backs_of(std::make_integer_sequence<int, HEIGHT>());

// Calls run(first row, rows) for tiles of about equal height.
template <class Run>
static void for_tiles(int64_t rows, Run&& run) {
  const int64_t count = (rows + HEIGHT - 1) / HEIGHT;
  for (int64_t k = 0, start = 0; k < count; k++) {
    const int64_t end = rows * (k + 1) / count;
    run(start, end - start);
    start = end;
  }
}

// Calls run(first unit, mask) for each vector of units.
template <class Run>
static void for_units(int64_t units, Run&& run) {
  for (int64_t unit = 0; unit < units; unit += LANES) run(unit, first(std::min<int64_t>(LANES, units - unit)));
}

// The sequences from `first_row` on through all steps. Working space: h, c and the next h of each.
static void lstm_forward(const Lstm& s, int64_t first_row, int64_t rows, float* space) {
  const int64_t size = rows * s.width;
  Rows at{first_row, s.reverse ? s.steps - 1 : 0, s.reverse ? -1 : 1, space, space + size, space + 2 * size};
  std::memset(space, 0, 3 * size * sizeof(float));
  for (int64_t row = 0; row < rows; row++) {
    std::memcpy(at.h + row * s.width, s.h + (first_row + row) * s.units, s.units * sizeof(float));
    std::memcpy(at.c + row * s.width, s.c + (first_row + row) * s.units, s.units * sizeof(float));
  }
  for (int64_t step = 0; step < s.steps; step++, at.t += at.direction) {
    for_units(s.units, [&](int64_t unit, Mask last) {
      for_tiles(rows, [&](int64_t row, int64_t height) { lstm_steps[height - 1](s, at, row, unit, last); });
    });
    std::swap(at.h, at.next);
  }
  if (!s.gates)
    for (int64_t row = 0; row < rows; row++)
      std::memcpy(s.cs + (first_row + row) * s.units, at.c + row * s.width, s.units * sizeof(float));
}

// y[row] += x[row] @ packed, for rows of `width` floats
static void back_product(float* y, int64_t width, const float* x, int64_t depth, const float* packed, int64_t rows) {
  const int64_t run = std::min<int64_t>(depth, 128);  // leaves its part of the weight in the cache
  for (int64_t column = 0; column < width; column += 4 * LANES) {
    const int vectors = static_cast<int>(std::min<int64_t>(4, (width - column) / LANES));
    for (int64_t k = 0; k < depth; k += run)
      for_tiles(rows, [&](int64_t row, int64_t height) {
        back_tiles[height - 1](y + row * width + column, width, x + row * depth + k, depth,
                               packed + column * depth + k * 4 * LANES, std::min(run, depth - k), vectors);
      });
  }
}

// The same sequences from the last step to the first. Working space: the gradients of h, c, the four sums, and x.
static void lstm_back(const LstmBack& s, int64_t first_row, int64_t rows, float* space) {
  const int64_t size = rows * s.width, depth = 4 * s.width;
  Rows at{first_row, s.reverse ? 0 : s.steps - 1, s.reverse ? 1 : -1, space, space + 2 * size, space + size};
  float* d_x = space + 6 * size;
  std::memset(space, 0, 2 * size * sizeof(float));
  for (int64_t row = 0; row < rows; row++)
    std::memcpy(at.c + row * s.width, s.d_c + (first_row + row) * s.units, s.units * sizeof(float));
  for (int64_t step = s.steps; step-- > 0; at.t += at.direction) {
    for (int64_t row = 0; row < rows; row++) {
      const float* before = step ? s.cs + (s.place(at, row) + at.direction) * s.units : s.c + (first_row + row) * s.units;
      for_units(s.units, [&](int64_t unit, Mask last) { lstm_slopes(s, at, before, row, unit, last); });
    }
    back_product(at.h, s.width, at.next, depth, s.packed, rows);
    if (!s.d_x) continue;
    std::memset(d_x, 0, rows * s.input_width * sizeof(float));
    back_product(d_x, s.input_width, at.next, depth, s.packed_inputs, rows);
    for (int64_t row = 0; row < rows; row++)
      std::memcpy(s.d_x + s.place(at, row) * s.inputs, d_x + row * s.input_width, s.inputs * sizeof(float));
  }
  for (int64_t row = 0; row < rows; row++) {
    std::memcpy(s.d_h0 + (first_row + row) * s.units, at.h + row * s.width, s.units * sizeof(float));
    std::memcpy(s.d_c0 + (first_row + row) * s.units, at.c + row * s.width, s.units * sizeof(float));
  }
}

// The gradients of both weights and of the bias, of four vectors of columns from `column` on: for all steps of all
// sequences in the same order, some at a time, so that they are read from the cache.
static void weight_gradients(const LstmBack& s, int64_t column) {
  constexpr int64_t RUN = 48;
  const float one = 1.0f;
  const float *x[RUN], *h[RUN], *ones[RUN];
  const int64_t all = 4 * s.units, count = std::min<int64_t>(4 * LANES, all - column);
  const int vectors = static_cast<int>((count + LANES - 1) / LANES);
  const Mask last = first(count - (vectors - 1) * LANES);
  const auto clear = [&](float* w, int64_t rows) {
    for (int64_t k = 0; k < rows; k++) std::memset(w + k * all + column, 0, count * sizeof(float));
  };
  clear(s.d_weight, s.inputs), clear(s.d_recurrent, s.units), clear(s.d_bias, 1);
  const int64_t places = s.batch * s.steps;
  for (int64_t n = 0; n < places; n += RUN) {
    const int64_t run = std::min(RUN, places - n);
    for (int64_t k = 0; k < run; k++) {
      const int64_t row = (n + k) / s.steps, t = (n + k) % s.steps;
      const bool start = t == (s.reverse ? s.steps - 1 : 0);
      x[k] = s.x + (n + k) * s.inputs;
      h[k] = start ? s.h + row * s.units : s.hs + (n + k + (s.reverse ? 1 : -1)) * s.units;
      ones[k] = &one;
    }
    const auto add = [&](float* w, int64_t rows, const float* const* from) {
      for_tiles(rows, [&](int64_t k, int64_t height) {
        weight_tiles[height - 1](w + k * all + column, all, from, k, s.slopes + n * all + column, run, vectors, last);
      });
    };
    add(s.d_weight, s.inputs, x), add(s.d_recurrent, s.units, h), add(s.d_bias, 1, ones);
  }
}
