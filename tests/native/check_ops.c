/*
 * check_ops: the float ops of models, made by hand, against plain loops in double precision, and the same bits on every
 * instruction set and number of threads.
 *
 *   check_ops [--seed N]
 */
#include "check_ops.h"

#include <math.h>
#include <string.h>

/* ---- Products ---- */

static double activate(const char *activation, double y) {
  return strcmp(activation, "relu") == 0   ? fmax(y, 0.0)
         : strcmp(activation, "gelu") == 0 ? 0.5 * y * erfc(-y / sqrt(2.0))
                                           : y;
}

/* Returns the number of the tensor's matrix that is `index` of a batch of these dims, written plainly. */
static size_t matrix_at(size_t rank, const size_t *dims, const dynq_op_tensor *t, size_t index) {
  size_t at = 0, coordinates[DYNQ_MAX_RANK];
  for (size_t i = rank; i-- > 0; index /= dims[i]) {
    coordinates[i] = index % dims[i];
  }
  for (size_t i = 0; i + 2 < t->rank; i++) {
    const size_t in_batch = rank - (t->rank - 2) + i;
    at = at * t->dims[i] + (t->dims[i] == 1 ? 0 : coordinates[in_batch]);
  }
  return at;
}

static void check_matmul(void) {
  static const struct {
    size_t a_rank, a[5], b_rank, b[5], y_rank, y[5]; /* the batch is y's first y_rank - 2 */
  } shapes[] = {
      {2, {5, 7}, 2, {7, 9}, 2, {5, 9}},
      {2, {1, 40}, 2, {40, 300}, 2, {1, 300}},
      {2, {130, 33}, 2, {33, 150}, 2, {130, 150}},
      {3, {2, 60, 64}, 2, {64, 200}, 3, {2, 60, 200}},
      {4, {2, 1, 30, 17}, 4, {1, 3, 17, 20}, 4, {2, 3, 30, 20}},
      {3, {4, 5, 6}, 4, {2, 1, 6, 3}, 4, {2, 4, 5, 3}},
      {2, {3, 0}, 2, {0, 4}, 2, {3, 4}},
      {3, {0, 3, 4}, 2, {4, 5}, 3, {0, 3, 5}},
      {2, {30, 4100}, 2, {4100, 20}, 2, {30, 20}},
      {2, {500, 300}, 2, {300, 130}, 2, {500, 130}},
  };
  check_begin("", "MatMul");
  for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
    op_case c = op_case_of("MatMul");
    const float *a = op_case_add_f32(&c, 2.0f, shapes[s].a_rank, shapes[s].a);
    const float *b = op_case_add_f32(&c, 2.0f, shapes[s].b_rank, shapes[s].b);
    const size_t rank = shapes[s].y_rank, m = shapes[s].y[rank - 2], n = shapes[s].y[rank - 1];
    const size_t k = shapes[s].a[shapes[s].a_rank - 1];
    check_case("shapes %zu", s);
    if (op_case_run(&c, DYNQ_OK)) {
      CHECK(c.out[0].rank == rank && memcmp(c.out[0].dims, shapes[s].y, rank * sizeof(size_t)) == 0);
      for (size_t i = 0; i < c.out[0].count; i++) {
        const size_t matrix = i / (m * n), row = i / n % m, column = i % n;
        const float *of_a = a + matrix_at(rank - 2, shapes[s].y, &c.in[0], matrix) * m * k + row * k;
        const float *of_b = b + matrix_at(rank - 2, shapes[s].y, &c.in[1], matrix) * k * n + column;
        float y = 0.0f;
        for (size_t p = 0; p < k; p++) {
          y = fmaf(of_a[p], of_b[p * n], y);
        }
        op_case_near(&c, 0, i, (double)y, 0.0);
      }
    }
    guards_release();
  }
  static const size_t vectors[][6] = {{1, 7, 2, 7, 3, 3}, {2, 4, 1, 6, 4, 0}};
  for (size_t s = 0; s < 2; s++) { /* (7) x (7, 3) and (4, 6) x (6) */
    op_case c = op_case_of("MatMul");
    const size_t left[2] = {s == 0 ? 7 : 4, 6}, right[2] = {s == 0 ? 7 : 6, 3};
    const float *a = op_case_add_f32(&c, 2.0f, vectors[s][0], left),
                *b = op_case_add_f32(&c, 2.0f, vectors[s][2], right);
    check_case("vector %zu", s);
    if (op_case_run(&c, DYNQ_OK)) {
      CHECK(c.out[0].rank == 1 && c.out[0].dims[0] == vectors[s][4]);
      for (size_t i = 0; i < c.out[0].count; i++) {
        float y = 0.0f;
        for (size_t p = 0; p < right[0]; p++) {
          y = s == 0 ? fmaf(a[p], b[p * 3 + i], y) : fmaf(a[i * 6 + p], b[p], y);
        }
        op_case_near(&c, 0, i, (double)y, 0.0);
      }
    }
    guards_release();
  }
  op_case c = op_case_of("MatMul");
  (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){2, 3});
  (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){4, 3});
  op_case_refused(&c, "columns");
  check_end();
}

static void check_gemm(void) {
  static const size_t c_shapes[][2] = {{0, 0}, {1, 1}, {1, 21}, {33, 1}, {33, 21}};
  check_begin("", "Gemm");
  for (size_t repeat = 0; repeat < 40; repeat++) {
    const size_t m = 33, n = 21, k = 19;
    const bool trans_a = repeat % 2 != 0, trans_b = repeat / 2 % 2 != 0, scaled = repeat >= 20;
    const size_t *shape = c_shapes[repeat / 4 % 5];
    const float alpha = scaled ? 0.5f : 1.0f, beta = scaled ? -3.0f : 1.0f;
    op_case c = op_case_of("Gemm");
    const float *a = op_case_add_f32(&c, 1.0f, 2, trans_a ? (const size_t[]){k, m} : (const size_t[]){m, k});
    const float *b = op_case_add_f32(&c, 1.0f, 2, trans_b ? (const size_t[]){n, k} : (const size_t[]){k, n});
    const size_t c_rank = shape[0] == 0 ? 0 : shape[0] == 1 && repeat % 3 == 0 ? 1 : 2;
    const float *added = NULL;
    if (shape[0] != 0 || repeat % 3 == 0) {
      added = op_case_add_f32(&c, 1.0f, c_rank, c_rank == 1 ? shape + 1 : shape);
    }
    if (trans_a) {
      op_case_int(&c, "transA", 1);
    }
    if (trans_b) {
      op_case_int(&c, "transB", 1);
    }
    if (scaled) {
      op_case_float(&c, "alpha", alpha);
      op_case_float(&c, "beta", beta);
    }
    check_case("transA %d, transB %d, alpha %g, C %zu x %zu of rank %zu", trans_a, trans_b, (double)alpha, shape[0],
               shape[1], c_rank);
    if (op_case_run(&c, DYNQ_OK)) {
      CHECK(c.out[0].rank == 2 && c.out[0].dims[0] == m && c.out[0].dims[1] == n);
      for (size_t i = 0; i < m * n; i++) {
        double y = 0.0;
        for (size_t p = 0; p < k; p++) {
          y += (double)(trans_a ? a[p * m + i / n] : a[i / n * k + p]) *
               (double)(trans_b ? b[i % n * k + p] : b[p * n + i % n]);
        }
        const size_t rows = c_rank == 2 ? shape[0] : 1, columns = c_rank >= 1 ? shape[1] : 1;
        const size_t at = (rows != 1 ? i / n * columns : 0) + (columns != 1 ? i % n : 0);
        op_case_near(&c, 0, i, (double)alpha * y + (added != NULL ? (double)beta * (double)added[at] : 0.0), 1e-5);
      }
    }
    guards_release();
  }
  op_case c = op_case_of("Gemm");
  (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){2, 3});
  (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){3, 4});
  (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){2, 3});
  op_case_refused(&c, "C is");
  check_end();
}

static void check_linear_float(void) {
  static const char *const activations[] = {"none", "relu", "gelu"};
  static const size_t rows[] = {1, 2, 11, 24, 25, 100, 300};
  check_begin("", "dynq.LinearFloat");
  for (size_t repeat = 0; repeat < 24; repeat++) {
    const size_t dims[3] = {1 + repeat % 2, rows[random_below(7)], 1 + random_below(70)}, n = 1 + random_below(300);
    const size_t m = dims[0] * dims[1], k = dims[2];
    const char *activation = activations[repeat % 3];
    op_case c = op_case_of("dynq.LinearFloat");
    const float *x = op_case_add_f32(&c, 1.0f, 3, dims), *w = op_case_add_f32(&c, 1.0f, 2, (const size_t[]){k, n});
    const float *bias = NULL, *residual = NULL;
    if (random_below(2) != 0) {
      bias = op_case_add_f32(&c, 1.0f, 1, &n);
    } else {
      op_case_skip(&c);
    }
    if (random_below(2) != 0) {
      residual = op_case_add_f32(&c, 1.0f, 3, (const size_t[]){dims[0], dims[1], n});
    }
    op_case_string(&c, "activation", activation);
    check_case("m %zu, n %zu, k %zu, %s%s%s", m, n, k, activation, bias != NULL ? ", bias" : "",
               residual != NULL ? ", residual" : "");
    if (op_case_run(&c, DYNQ_OK)) {
      for (size_t i = 0; i < m * n; i++) {
        double y = 0.0;
        for (size_t p = 0; p < k; p++) {
          y += (double)x[i / n * k + p] * (double)w[p * n + i % n];
        }
        y += (bias != NULL ? (double)bias[i % n] : 0.0) + (residual != NULL ? (double)residual[i] : 0.0);
        op_case_near(&c, 0, i, activate(activation, y), 1e-4);
      }
    }
    guards_release();
  }
  op_case c = op_case_of("dynq.LinearFloat");
  (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){2, 3});
  (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){3, 4});
  op_case_string(&c, "activation", "swish");
  op_case_refused(&c, "activation");
  check_end();
}

/* ---- dynq.Attention ---- */

typedef enum mask_kind { NO_MASK, MASK_KEYS, MASK_KEYS_BOOL, MASK_ALL, MASK_ALL_BOOL, MASK_ROWS, MASK_KINDS } mask_kind;

/* q, k or v, and how far it is to the next sequence, head and row. */
typedef struct operand {
  const float *data;
  size_t of_batch, of_head, of_row;
} operand;

typedef struct attention {
  size_t b, h, s, t, d, e, shared; /* so many heads of q share one of k and v */
  float scale, softcap;            /* 0: none */
  operand q, k, v;
  mask_kind mask;
  const void *mask_data;
} attention;

static double mask_at(const attention *a, size_t b, size_t h, size_t s, size_t t) {
  const size_t all = ((b * a->h + h) * a->s + s) * a->t + t;
  switch (a->mask) {
  case MASK_KEYS: /* (b, 1, 1, t) */
    return (double)((const float *)a->mask_data)[b * a->t + t];
  case MASK_KEYS_BOOL: /* (s, t) */
    return ((const uint8_t *)a->mask_data)[s * a->t + t] != 0 ? 0.0 : -INFINITY;
  case MASK_ALL:
    return (double)((const float *)a->mask_data)[all];
  case MASK_ALL_BOOL:
    return ((const uint8_t *)a->mask_data)[all] != 0 ? 0.0 : -INFINITY;
  case MASK_ROWS: /* (h, s, 1) */
    return (double)((const float *)a->mask_data)[h * a->s + s];
  case NO_MASK:
  case MASK_KINDS:
    break;
  }
  return 0.0;
}

static void add_mask(op_case *c, attention *a) {
  const size_t keys[4] = {a->b, 1, 1, a->t}, plane[2] = {a->s, a->t}, all[4] = {a->b, a->h, a->s, a->t};
  const size_t rows[3] = {a->h, a->s, 1};
  if (a->mask == MASK_KEYS || a->mask == MASK_ALL || a->mask == MASK_ROWS) {
    float *x = a->mask == MASK_KEYS  ? op_case_add_f32(c, 3.0f, 4, keys)
               : a->mask == MASK_ALL ? op_case_add_f32(c, 3.0f, 4, all)
                                     : op_case_add_f32(c, 3.0f, 3, rows);
    for (size_t i = 0; a->mask != MASK_ROWS && i < c->in[3].count; i++) {
      x[i] = i % a->t != 0 && random_below(4) == 0 ? -INFINITY : x[i];
    }
    a->mask_data = x;
  } else if (a->mask != NO_MASK) {
    uint8_t *x = a->mask == MASK_ALL_BOOL ? op_case_add(c, DYNQ_BOOL, 4, all) : op_case_add(c, DYNQ_BOOL, 2, plane);
    for (size_t i = 0; i < c->in[3].count; i++) {
      x[i] = i % a->t == 0 || random_below(3) != 0;
    }
    a->mask_data = x;
  }
}

static double element(const operand *o, size_t b, size_t h, size_t row, size_t i) {
  return (double)o->data[b * o->of_batch + h * o->of_head + row * o->of_row + i];
}

/* Rows of all heads side by side, or heads of rows. */
static operand add_operand(op_case *c, size_t b, size_t h, size_t rows, size_t size, bool by_heads) {
  return by_heads ? (operand){op_case_add_f32(c, 2.0f, 4, (const size_t[]){b, h, rows, size}), h * rows * size,
                              rows * size, size}
                  : (operand){op_case_add_f32(c, 2.0f, 3, (const size_t[]){b, rows, h * size}), rows * h * size, size,
                              h * size};
}

/* One query of one head against all; `bound` for each output. */
static void expect_query(const op_case *c, const attention *a, size_t b, size_t h, size_t s, double bound) {
  double weights[300], sum = 0.0, max = -INFINITY;
  for (size_t t = 0; t < a->t; t++) {
    double score = 0.0;
    for (size_t i = 0; i < a->d; i++) {
      score += element(&a->q, b, h, s, i) * element(&a->k, b, h / a->shared, t, i);
    }
    score *= (double)a->scale;
    score = a->softcap > 0.0f ? (double)a->softcap * tanh(score / (double)a->softcap) : score;
    weights[t] = score + mask_at(a, b, h, s, t);
    max = fmax(max, weights[t]);
  }
  for (size_t t = 0; t < a->t; t++) {
    weights[t] = exp(weights[t] - max);
    sum += weights[t];
  }
  for (size_t i = 0; i < a->e; i++) {
    double y = 0.0;
    for (size_t t = 0; t < a->t; t++) {
      y += weights[t] / sum * element(&a->v, b, h / a->shared, t, i);
    }
    op_case_near(c, 0, ((b * a->s + s) * a->h + h) * a->e + i, y, bound);
  }
}

static void check_attention(void) {
  check_begin("", "dynq.Attention");
  for (size_t repeat = 0; repeat < 48; repeat++) {
    attention a = {.b = 1 + random_below(2),
                   .h = 1 + random_below(3),
                   .s = repeat % 8 == 0 ? 200 : 1 + random_below(60),
                   .t = repeat % 8 == 1 ? 300 : 1 + random_below(60),
                   .d = 1 + random_below(40),
                   .e = 1 + random_below(40),
                   .shared = 1 + random_below(3),
                   .softcap = repeat % 4 == 2 ? 1.5f : 0.0f,
                   .mask = (mask_kind)(repeat % MASK_KINDS)};
    const bool quantize = repeat % 5 == 4, scaled = random_below(2) != 0;
    op_case c = op_case_of("dynq.Attention");
    a.scale = scaled ? 0.3f : 1.0f / sqrtf((float)a.d);
    if (repeat % 7 == 3) { /* all three in one */
      const size_t width = a.h * a.d;
      a.t = a.s;
      a.e = a.d;
      a.shared = 1;
      a.q = a.k = a.v = (operand){op_case_add_f32(&c, 2.0f, 3, (const size_t[]){a.b, a.s, 3 * width}), a.s * 3 * width,
                                  a.d, 3 * width};
      a.k.data += width;
      a.v.data += 2 * width;
      op_case_skip(&c);
      op_case_skip(&c);
    } else {
      const size_t forms = random_below(8), groups = a.h;
      a.h *= a.shared;
      a.q = add_operand(&c, a.b, a.h, a.s, a.d, (forms & 1) != 0);
      a.k = add_operand(&c, a.b, groups, a.t, a.d, (forms & 2) != 0);
      a.v = add_operand(&c, a.b, groups, a.t, a.e, (forms & 4) != 0);
    }
    add_mask(&c, &a);
    op_case_int(&c, "heads", (int64_t)a.h);
    if (scaled) {
      op_case_float(&c, "scale", a.scale);
    }
    if (a.softcap > 0.0f) {
      op_case_float(&c, "softcap", a.softcap);
    }
    if (quantize) {
      op_case_int(&c, "quantize", 1);
    }
    check_case("b %zu, h %zu, s %zu, t %zu, d %zu, e %zu, mask %d%s", a.b, a.h, a.s, a.t, a.d, a.e, (int)a.mask,
               quantize ? ", quantize" : "");
    if (op_case_run(&c, DYNQ_OK)) {
      CHECK(c.out[0].rank == 3 && c.out[0].dims[0] == a.b && c.out[0].dims[1] == a.s && c.out[0].dims[2] == a.h * a.e);
      for (size_t i = 0; i < a.b * a.h * a.s; i++) {
        expect_query(&c, &a, i / a.s / a.h, i / a.s % a.h, i % a.s, quantize ? 0.2 : 2e-5);
      }
    }
    guards_release();
  }
  check_end();
}

/* A query that looks at nothing gives NaN; one whose scores hold a NaN too; the others are untouched. */
static void check_attention_special(void) {
  check_begin("", "dynq.Attention: NaN, empty, refused");
  for (size_t quantize = 0; quantize < 2; quantize++) {
    op_case c = op_case_of("dynq.Attention");
    float *q = op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, 4, 8});
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, 5, 8});
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, 5, 8});
    uint8_t *mask = op_case_add(&c, DYNQ_BOOL, 2, (const size_t[]){4, 5});
    for (size_t i = 0; i < 20; i++) {
      mask[i] = i / 5 != 1;
    }
    q[2 * 8] = NAN;
    op_case_int(&c, "heads", 2);
    op_case_int(&c, "quantize", (int64_t)quantize);
    check_case("a NaN, a row that is masked, quantize %zu", quantize);
    if (op_case_run(&c, quantize != 0 ? DYNQ_NONFINITE : DYNQ_OK)) {
      for (size_t i = 0; i < 32; i++) {
        const float y = ((float *)c.out[0].data)[i];
        CHECK(isnan(y) == (i / 8 == 2 && i % 8 < 4));
        CHECK((y == 0.0f) == (i / 8 == 1));
      }
    }
    guards_release();
    c = op_case_of("dynq.Attention");
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){2, 3, 6});
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){2, 0, 6});
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){2, 0, 6});
    op_case_int(&c, "heads", 3);
    op_case_int(&c, "quantize", (int64_t)quantize);
    check_case("no keys, quantize %zu", quantize);
    if (op_case_run(&c, DYNQ_OK)) {
      for (size_t i = 0; i < c.out[0].count; i++) {
        op_case_near(&c, 0, i, 0.0, 0.0);
      }
    }
    guards_release();
  }
  for (size_t wrong = 0; wrong < 7; wrong++) {
    op_case c = op_case_of("dynq.Attention");
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, 4, 8});
    if (wrong >= 5) { /* k left out, then v too */
      op_case_int(&c, "heads", 2);
      op_case_skip(&c);
      if (wrong == 5) {
        (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, 5, 8});
      }
      op_case_refused(&c, wrong == 5 ? "k is left out" : "q has 8 columns");
      guards_release();
      continue;
    }
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, 5, wrong == 1 ? 6 : 8});
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, wrong == 2 ? 6 : 5, 8});
    (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){4, wrong == 3 ? 4 : 5});
    op_case_int(&c, "heads", wrong == 0 ? 3 : 2);
    op_case_int(&c, "quantize", wrong == 4 ? 2 : 0);
    op_case_refused(&c, wrong == 0 ? "heads is 3" : wrong == 3 ? "mask" : wrong == 4 ? "quantize" : "k 1 x 5");
    guards_release();
  }
  static const struct {
    size_t q[4], k[4], v[4];
    float softcap;
    const char *says;
  } refused[] = {{{1, 3, 4, 2}, {1, 2, 5, 2}, {1, 2, 5, 2}, 0.0f, "heads is 4"},
                 {{1, 4, 4, 2}, {1, 3, 5, 2}, {1, 3, 5, 2}, 0.0f, "a whole number of heads"},
                 {{1, 4, 4, 2}, {1, 2, 5, 2}, {1, 4, 5, 2}, 0.0f, "as many rows and heads"},
                 {{1, 4, 4, 2}, {1, 2, 5, 2}, {1, 2, 6, 2}, 0.0f, "as many rows and heads"},
                 {{1, 4, 4, 2}, {1, 2, 5, 3}, {1, 2, 5, 3}, 0.0f, "of the same width"},
                 {{1, 4, 4, 2}, {1, 0, 5, 2}, {1, 0, 5, 2}, 0.0f, "a whole number of heads"},
                 {{1, 4, 4, 2}, {1, 2, 5, 2}, {1, 2, 5, 2}, -1.0f, "softcap is -1"}};
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
    op_case c = op_case_of("dynq.Attention");
    (void)op_case_add_f32(&c, 1.0f, 4, refused[i].q);
    (void)op_case_add_f32(&c, 1.0f, 4, refused[i].k);
    (void)op_case_add_f32(&c, 1.0f, 4, refused[i].v);
    op_case_int(&c, "heads", 4);
    if (refused[i].softcap != 0.0f) {
      op_case_float(&c, "softcap", refused[i].softcap);
    }
    op_case_refused(&c, refused[i].says);
    guards_release();
  }
  check_end();
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  check_matmul();
  check_gemm();
  check_linear_float();
  check_attention();
  check_attention_special();
  check_row_ops();
  check_element_ops();
  check_data_ops();
  check_conv_ops();
  check_window_ops();
  check_recurrent_ops();
  check_linear_ops();
  return check_finish();
}
