/*
 * Damaged models: each gives DYNQ_ERROR_FORMAT with a message, or opens and runs without reading what is not there.
 */
#include "check_model.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* Sizes in a damaged plan may ask for much; a machine has more to do. */
static bool refuse_large(size_t bytes) { return bytes > 64u << 20; }

/* A copy of its own, with guards around it. */
static void *copy_of(const void *image, size_t size) {
  void *copy = guarded(size != 0 ? size : 1, 64);
  memcpy(copy, image, size);
  return copy;
}

/* Ends what runs for longer: a loop without an end is no damage. */
static int end_soon(void *context) {
  (void)context;
  return 1;
}

/* Opens, and runs where it opens: whatever comes, nothing but a status. */
static dynq_status try_image(const void *image, size_t size) {
  static const int64_t zeros[4096];
  dynq_model *model = NULL;
  dynq_session *session = NULL;
  dynq_tensor in[4] = {0}, out[8];
  const dynq_status status = dynq_model_open_memory(image, size, &model);
  CHECK(status == DYNQ_OK || status == DYNQ_ERROR_FORMAT || status == DYNQ_ERROR_OUT_OF_MEMORY);
  CHECK(status == DYNQ_OK || dynq_last_error()[0] != '\0');
  if (status != DYNQ_OK) {
    return status;
  }
  if (dynq_model_input_count(model) > 4 || dynq_model_output_count(model) > 8) {
    dynq_model_close(model);
    return status;
  }
  for (size_t i = 0; i < dynq_model_input_count(model); i++) {
    dynq_model_value value;
    CHECK_STATUS(DYNQ_OK, dynq_model_input(model, i, &value));
    in[i] = (dynq_tensor){.dtype = value.dtype, .rank = value.rank, .data = zeros};
    size_t count = 1;
    for (size_t d = 0; d < value.rank; d++) {
      in[i].dims[d] = value.dims[d] >= 0 && value.dims[d] <= 4096 ? (size_t)value.dims[d] : 2;
      count *= count <= 4096 ? in[i].dims[d] : 1;
    }
    in[i].data = count <= 4096 ? zeros : NULL;
  }
  CHECK_STATUS(DYNQ_OK, dynq_session_new_with(model, &(dynq_session_options){.poll = end_soon}, &session));
  dynq_alloc_refuse = refuse_large;
  const dynq_status ran = dynq_model_run(session, in, out);
  dynq_alloc_refuse = NULL;
  CHECK(ran == DYNQ_OK || dynq_last_error()[0] != '\0');
  dynq_session_free(session);
  dynq_model_close(model);
  return status;
}

static void check_truncations(const void *image, size_t size) {
  size_t plan_size;
  void *whole = copy_of(image, size);
  const size_t plan_at = (size_t)(plan_of(whole, size, &plan_size) - (unsigned char *)whole);
  guards_release();
  check_begin("", "truncated models are refused");
  for (size_t cut = 0; cut < size; cut += cut < plan_at + plan_size + 64 ? 1 : 97) {
    check_case("the first %zu bytes of %zu", cut, size);
    CHECK(try_image(copy_of(image, cut), cut) == DYNQ_ERROR_FORMAT);
    guards_release();
  }
  for (size_t cut = 32; cut < plan_size; cut++) { /* a plan that says that it is shorter, with the right checksum */
    unsigned char *copy = copy_of(image, size);
    check_case("a plan of %zu bytes of %zu", cut, plan_size);
    for (size_t i = 0; i < 8; i++) {
      copy[plan_at + 16 + i] = (unsigned char)((uint64_t)cut >> 8 * i);
    }
    plan_repair(copy, size);
    CHECK(try_image(copy, size) == DYNQ_ERROR_FORMAT);
    guards_release();
  }
  check_end();
}

static void check_flips(const void *image, size_t size) {
  size_t plan_size, opened = 0;
  void *whole = copy_of(image, size);
  const size_t plan_at = (size_t)(plan_of(whole, size, &plan_size) - (unsigned char *)whole);
  guards_release();
  check_begin("", "flipped bits of a plan");
  for (size_t bit = 0; bit < 8 * plan_size; bit++) {
    unsigned char *copy = copy_of(image, size);
    check_case("bit %zu of byte %zu", bit % 8, bit / 8);
    copy[plan_at + bit / 8] ^= (unsigned char)(1u << bit % 8);
    CHECK(try_image(copy, size) == DYNQ_ERROR_FORMAT); /* the checksum tells */
    plan_repair(copy, size);
    opened += try_image(copy, size) == DYNQ_OK;
    guards_release();
  }
  CHECK(opened > 0); /* a letter of a name, say */
  check_end();
}

static void check_wild_numbers(const void *image, size_t size) {
  static const uint64_t wild[] = {0,          1,          0x7f,       0xff,       0x7fffffff,         0x80000000,
                                  0xffffffff, 0xfffffffe, 0xffffff00, UINT64_MAX, UINT64_MAX / 2 + 1, 1ull << 62};
  size_t plan_size;
  void *whole = copy_of(image, size);
  const size_t plan_at = (size_t)(plan_of(whole, size, &plan_size) - (unsigned char *)whole);
  guards_release();
  check_begin("", "wild numbers in a plan");
  for (size_t at = 16; at < plan_size; at++) {
    for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++) {
      const size_t bytes = random_below(2) != 0 ? 4 : 8;
      unsigned char *copy = copy_of(image, size);
      check_case("%zu bytes at %zu are %llu", bytes, at, (unsigned long long)wild[i]);
      for (size_t j = 0; j < bytes && at + j < plan_size; j++) {
        copy[plan_at + at + j] = (unsigned char)(wild[i] >> 8 * j);
      }
      plan_repair(copy, size);
      (void)try_image(copy, size);
      guards_release();
    }
  }
  for (size_t round = 0; round < 3000; round++) { /* several at once */
    unsigned char *copy = copy_of(image, size);
    check_case("round %zu of several", round);
    for (size_t n = random_between(1, 4); n > 0; n--) {
      copy[plan_at + 32 + random_below(plan_size - 32)] = (unsigned char)check_random();
    }
    plan_repair(copy, size);
    (void)try_image(copy, size);
    guards_release();
  }
  check_end();
}

/* ---- One fault each, in plans that are whole otherwise ---- */

static void refuse(const char *named, plan_writer *w) {
  size_t size;
  dynq_model *model = NULL;
  void *image = plan_finish(w, &size);
  check_case("%s", named);
  check_status(__FILE__, __LINE__, "dynq_model_open_memory", DYNQ_ERROR_FORMAT,
               dynq_model_open_memory(image, size, &model), named);
  dynq_model_close(model);
  free(image);
}

/* A writer with an input x (2, 3) and a computed y. */
typedef struct parts {
  plan_writer w;
  uint32_t x, y;
} parts;

static parts begin(void) {
  parts p = {0};
  p.x = plan_input(&p.w, "x", DYNQ_FLOAT32, 2, (const int64_t[]){2, 3});
  p.y = plan_computed(&p.w, "y");
  return p;
}

static void check_faulty_plans(void) {
  enum { X, Y }; /* the tensors of begin() */
  static const struct {
    const char *named, *op;
    size_t inputs;
    uint32_t input, output;
  } nodes[] = {
      {"'n' is of op 'Nonsense'", "Nonsense", 1, X, Y},
      {"'y' is read before it is computed", "Identity", 1, Y, Y},
      {"'x', which is not computed", "Identity", 1, X, X},
      {"2 inputs; the op has 1 to 1", "Identity", 2, X, Y},
      {"input 0 is left out", "Identity", 1, PLAN_NONE, Y},
      {"output 0 of Identity is not read", "Identity", 1, X, PLAN_NONE},
      {"none of its outputs is read", "Shape", 1, X, PLAN_NONE},
      {"refers to tensor 7 of 2", "Identity", 1, 7, Y},
      {"input 1, 'x', is a tensor; expected a packed weight", "dynq.Linear", 2, X, Y},
  };
  check_begin("", "faulty plans are named");
  for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
    parts one = begin();
    plan_node(&one.w, "n", nodes[i].op, nodes[i].inputs, (const uint32_t[]){nodes[i].input, nodes[i].input}, 1,
              &nodes[i].output);
    refuse(nodes[i].named, &one.w);
  }
  parts p = begin();
  refuse("'y' is computed by no node", &p.w);
  p = begin();
  plan_node(&p.w, "n", "Identity", 1, &p.x, 1, &p.y);
  plan_node(&p.w, "m", "Identity", 1, &p.x, 1, &p.y);
  refuse("'y', which is computed already", &p.w);
  p = begin();
  plan_node(&p.w, "n", "Identity", 1, &p.x, 1, &p.y);
  plan_node(&p.w, "n", "Identity", 1, &p.x, 1, (const uint32_t[]){plan_computed(&p.w, "z")});
  refuse("another has the name 'n' too", &p.w);
  p = begin();
  plan_node(&p.w, "n", "Identity", 1, &p.x, 1, &p.y);
  plan_node(&p.w, "m", "Identity", 1, &p.x, 1, (const uint32_t[]){plan_computed(&p.w, "x")});
  refuse("another has the name 'x' too", &p.w);
  p = begin();
  dynq_weight *weight = random_weight(4, 3);
  const uint32_t packed = plan_weight(&p.w, "weight", weight);
  plan_node(&p.w, "n", "Identity", 1, &packed, 1, &p.y);
  refuse("'weight', is a packed weight; expected a tensor", &p.w);
  p = begin();
  plan_node(&p.w, "n", "Identity", 1, &p.x, 1, &p.y);
  plan_output(&p.w, "w", plan_weight(&p.w, "weight", weight));
  refuse("'weight' is a packed weight", &p.w);
  dynq_weight_free(weight);
  p = begin();
  plan_node(&p.w, "n", "Shape", 1, &p.x, 1, &p.y);
  plan_int(&p.w, "axis", 1);
  refuse("attribute 'axis' is unknown", &p.w);
  p = begin();
  plan_node(&p.w, "n", "Shape", 1, &p.x, 1, &p.y);
  plan_int(&p.w, "start", 1);
  plan_int(&p.w, "start", 1);
  refuse("attribute 'start' is there twice", &p.w);
  p = begin();
  plan_node(&p.w, "n", "Shape", 1, &p.x, 1, &p.y);
  plan_float(&p.w, "start", 1.0f);
  refuse("attribute 'start' is of type 2; expected 1", &p.w);
  p = begin();
  (void)plan_input(&p.w, "late", DYNQ_FLOAT32, 1, (const int64_t[]){-1});
  refuse("size -1 of dimension 0", &p.w);
  p = begin();
  (void)plan_input(&p.w, "\xff", DYNQ_FLOAT32, 0, NULL);
  refuse("not UTF-8", &p.w);
  p = begin();
  (void)plan_input(&p.w, "\xc0\x80", DYNQ_FLOAT32, 0, NULL);
  refuse("not UTF-8", &p.w);
  p = begin();
  (void)plan_input(&p.w, "odd", (dynq_dtype)6, 0, NULL);
  refuse("dtype 6", &p.w);
  p = begin();
  (void)plan_input(&p.w, "deep", DYNQ_FLOAT32, 9, (const int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1});
  refuse("9 dimensions; expected 8 at most", &p.w);
  check_end();
}

/* ---- State ---- */

/* A plan of one attention, whose two states are these. */
static void refuse_states(const char *named, dynq_dtype dtype, size_t rank, const int64_t *dims, bool same, bool read) {
  plan_writer w = {0};
  const int64_t shape[3] = {1, 2, 4};
  uint32_t x[3], y = 0, other = 0;
  for (size_t i = 0; i < 3; i++) {
    x[i] = plan_input(&w, (const char *const[]){"q", "k", "v"}[i], DYNQ_FLOAT32, 3, shape);
  }
  const uint32_t keys = plan_state(&w, "keys", dtype, rank, dims), values = plan_state(&w, "values", dtype, rank, dims);
  y = plan_computed(&w, "y");
  other = plan_computed(&w, "other");
  plan_node(&w, "n", "dynq.CachedAttention", 5, (const uint32_t[]){x[0], x[1], x[2], keys, same ? keys : values}, 1,
            &y);
  plan_int(&w, "heads", 1);
  plan_node(&w, "m", "Neg", 1, read ? &keys : &y, 1, &other);
  plan_output(&w, "y", other);
  refuse(named, &w);
}

static void check_states(void) {
  const int64_t dims[4] = {1, 9, 4, 1};
  check_begin("", "states that are none");
  refuse_states("a state is int64 of 3", DYNQ_INT64, 3, dims, false, false);
  refuse_states("a state is float32 of 4", DYNQ_FLOAT32, 4, dims, false, false);
  refuse_states("a state of 1 x 0 x 4", DYNQ_FLOAT32, 3, (const int64_t[]){1, 0, 4}, false, false);
  refuse_states("size -1", DYNQ_FLOAT32, 3, (const int64_t[]){-1, 9, 4}, false, false);
  refuse_states("a state of", DYNQ_FLOAT32, 3, (const int64_t[]){1, INT64_MAX, 4}, false, false);
  refuse_states("another input's already", DYNQ_FLOAT32, 3, dims, true, false);
  refuse_states("a state; expected a tensor", DYNQ_FLOAT32, 3, dims, false, true);
  plan_writer w = {0};
  const uint32_t state = plan_state(&w, "state", DYNQ_FLOAT32, 3, dims);
  plan_output(&w, "y", state);
  refuse("is a state", &w);
  w = (plan_writer){0};
  uint32_t x[4];
  for (size_t i = 0; i < 4; i++) {
    x[i] = plan_input(&w, (const char *const[]){"q", "k", "v", "s"}[i], DYNQ_FLOAT32, 3, dims);
  }
  const uint32_t y = plan_computed(&w, "y");
  plan_node(&w, "n", "dynq.CachedAttention", 5, (const uint32_t[]){x[0], x[1], x[2], x[3], x[3]}, 1, &y);
  refuse("no state", &w);
  check_end();
}

/* ---- Bodies ---- */

/* A plan in which `loop` runs body 0 with x, three times, and that body has an If of two branches:
 * y = Loop(n, -, x) of v -> If(c; v): Neg(v) or v. */
typedef struct bodies {
  plan_writer w;
  uint32_t x, n, y, s, iteration, condition, v, chosen, a, negative, b;
} bodies;

static bodies begin_bodies(int64_t body, int64_t then_branch, int64_t carried) {
  bodies p = {0};
  p.x = plan_input(&p.w, "x", DYNQ_FLOAT32, 2, (const int64_t[]){2, 3});
  p.n = plan_constant(&p.w, "n", DYNQ_INT64, 0, NULL, &(const int64_t){3});
  p.y = plan_computed(&p.w, "y");
  p.s = plan_computed(&p.w, "s");
  p.iteration = plan_parameter(&p.w, "iteration");
  p.condition = plan_parameter(&p.w, "condition");
  p.v = plan_parameter(&p.w, "v");
  p.chosen = plan_computed(&p.w, "chosen");
  p.a = plan_parameter(&p.w, "a");
  p.negative = plan_computed(&p.w, "negative");
  p.b = plan_parameter(&p.w, "b");
  plan_node(&p.w, "loop", "dynq.Loop", 3, (const uint32_t[]){p.n, PLAN_NONE, p.x}, 2, (const uint32_t[]){p.y, p.s});
  plan_body(&p.w, "body", body);
  plan_int(&p.w, "carried", carried);
  plan_ints(&p.w, "scan_types", 3, (const int64_t[]){DYNQ_INT64, 1, -1});
  plan_output(&p.w, "y", p.y);
  plan_output(&p.w, "s", p.s);
  plan_begin_body(&p.w, 3, (const uint32_t[]){p.iteration, p.condition, p.v});
  plan_node(&p.w, "if", "dynq.If", 2, (const uint32_t[]){p.condition, p.v}, 1, &p.chosen);
  plan_body(&p.w, "then_branch", then_branch);
  plan_body(&p.w, "else_branch", 2);
  plan_end_body(&p.w, 3, (const uint32_t[]){p.condition, p.chosen, p.iteration});
  return p;
}

static void end_bodies(bodies *p, uint32_t read, uint32_t result) {
  plan_begin_body(&p->w, 1, &p->a);
  plan_node(&p->w, "neg", "Neg", 1, &read, 1, &p->negative);
  plan_end_body(&p->w, 1, &p->negative);
  plan_begin_body(&p->w, 1, &p->b);
  plan_end_body(&p->w, 1, &result);
}

static void *bodies_image(size_t *size) {
  bodies p = begin_bodies(0, 1, 1);
  end_bodies(&p, p.a, p.b);
  return plan_finish(&p.w, size);
}

static void check_bodies(void) {
  static const float x[6] = {1, -2, 3, 4, 5, 6};
  const dynq_tensor in = {.dtype = DYNQ_FLOAT32, .rank = 2, .dims = {2, 3}, .data = x};
  dynq_tensor out[2];
  dynq_session *session = NULL;
  size_t size;
  int vary = 0;
  check_begin("", "bodies that do not fit their nodes");
  void *image = bodies_image(&size);
  dynq_model *model = open_image(image, size);
  CHECK(dynq_model_node_count(model) == 3);
  CHECK_STATUS(DYNQ_OK, dynq_session_new(model, NULL, &session));
  CHECK_STATUS(DYNQ_OK, dynq_model_run(session, &in, out));
  for (size_t i = 0; i < 6; i++) {
    CHECK(((const float *)out[0].data)[i] == -x[i]);
  }
  CHECK(out[1].rank == 1 && out[1].dims[0] == 3 && ((const int64_t *)out[1].data)[2] == 2);
  CHECK_STATUS(DYNQ_OK, dynq_session_sizes_vary(session, &vary));
  CHECK(vary == 1);
  dynq_session_free(session);
  dynq_model_close(model);
  free(image);
  static const struct {
    const char *named;
    int64_t body, then_branch, carried;
  } numbers[] = {
      {"'loop' names no body of its own", 3, 1, 1}, {"'loop' names no body of its own", -1, 1, 1},
      {"no node before it runs it", 1, 1, 1},       {"'if' names no body of its own", 0, 0, 1},
      {"'if' names no body of its own", 0, 2, 1},   {"carried 2, 1 values", 0, 1, 2},
      {"carried -1, 1 values", 0, 1, -1},           {"scan_types", 0, 1, 0},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    bodies p = begin_bodies(numbers[i].body, numbers[i].then_branch, numbers[i].carried);
    end_bodies(&p, p.a, p.b);
    refuse(i == 2 ? "body" : numbers[i].named, &p.w);
  }
  bodies p = begin_bodies(0, 1, 1);
  end_bodies(&p, p.v, p.b);
  refuse("'v' is of another body", &p.w);
  p = begin_bodies(0, 1, 1);
  end_bodies(&p, p.x, p.b);
  refuse("'x' is of another body", &p.w);
  p = begin_bodies(0, 1, 1);
  end_bodies(&p, p.a, p.negative);
  refuse("'negative' is of another body", &p.w);
  p = begin_bodies(0, 1, 1);
  p.b = p.a;
  end_bodies(&p, p.a, p.a);
  refuse("'a' is another's already", &p.w);
  check_end();
}

/* A fault in the head or behind the plan. */
static void check_heads(const void *image, size_t size) {
  static const struct {
    size_t at;
    unsigned char value;
    const char *named;
  } faults[] = {{0, 'x', "no plan"}, {8, 4, "version 4; dynq"}, {8, 0, "version 0"},
                {12, 0, "checksum"}, {23, 0x80, "truncated"},   {30, 0x80, "truncated"}};
  size_t plan_size;
  check_begin("", "faulty heads are named");
  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
    unsigned char *copy = copy_of(image, size);
    unsigned char *plan = plan_of(copy, size, &plan_size);
    dynq_model *model = NULL;
    check_case("%s", faults[i].named);
    plan[faults[i].at] = faults[i].at != 12 ? faults[i].value : (unsigned char)~plan[12];
    if (faults[i].at != 12) {
      plan_repair(copy, size);
    }
    check_status(__FILE__, __LINE__, "dynq_model_open_memory", DYNQ_ERROR_FORMAT,
                 dynq_model_open_memory(copy, size, &model), faults[i].named);
    guards_release();
  }
  check_end();
}

void check_model_damage(void) {
  size_t size;
  void *image = sample_image(&size);
  check_heads(image, size);
  check_faulty_plans();
  check_truncations(image, size);
  check_flips(image, size);
  check_wild_numbers(image, size);
  free(image);
  check_states();
  image = state_image(&size);
  check_truncations(image, size);
  check_flips(image, size);
  check_wild_numbers(image, size);
  free(image);
  check_bodies();
  image = bodies_image(&size);
  check_truncations(image, size);
  check_flips(image, size);
  check_wild_numbers(image, size);
  free(image);
}
