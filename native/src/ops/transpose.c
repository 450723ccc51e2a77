/*
 * Transpose, DepthToSpace and SpaceToDepth: axes in another order.
 *
 * If the fastest axis stays the fastest, runs of memory are copied. Otherwise the two fastest axes, that of the input
 * and that of the output, are walked in square tiles, so that both sides use whole cache lines.
 */
#include "../base/alloc.h"
#include "checks.h"
#include "walk.h"

#include <string.h>

enum { TILE = 16 }; /* elements: a cache line of four-byte ones */

/* A tile: `rows` steps along the input's fastest axis, `columns` along the output's. */
#define COPY_TILE(name, SIZE)                                                                                          \
  static void name(size_t rows, size_t columns, char *to, ptrdiff_t to_stride, const char *from,                       \
                   ptrdiff_t from_stride) {                                                                            \
    for (size_t i = 0; i < rows; i++) {                                                                                \
      for (size_t j = 0; j < columns; j++) {                                                                           \
        memcpy(to + (ptrdiff_t)i * to_stride + j * (SIZE), from + i * (SIZE) + (ptrdiff_t)j * from_stride, SIZE);      \
      }                                                                                                                \
    }                                                                                                                  \
  }
COPY_TILE(copy_tile_1, 1)
COPY_TILE(copy_tile_4, 4)
COPY_TILE(copy_tile_8, 8)

typedef struct tile_job {
  const dynq_walk *walk; /* operand 0: the output, 1: the input */
  size_t size;
  size_t fastest; /* of the input; its last axis is the output's */
} tile_job;

/* A step of the job: all tiles of TILE rows along `fastest`, at one place of the other axes. */
static void transpose_tiles(const void *arg, size_t begin, size_t end) {
  const tile_job *job = arg;
  const dynq_walk *w = job->walk;
  const size_t last = w->rank - 1, n = w->dims[last], rows = w->dims[job->fastest];
  const size_t blocks = (rows + TILE - 1) / TILE, step = job->size;
  const ptrdiff_t to_stride = w->strides[0][job->fastest], from_stride = w->strides[1][last];
  for (size_t at = begin; at < end; at++) {
    const size_t row = at % blocks * TILE, height = rows - row < TILE ? rows - row : TILE;
    char *to = w->base[0] + (ptrdiff_t)row * to_stride;
    const char *from = w->base[1] + row * step;
    size_t rest = at / blocks;
    for (size_t d = last; d-- > 0;) {
      if (d != job->fastest) {
        to += (ptrdiff_t)(rest % w->dims[d]) * w->strides[0][d];
        from += (ptrdiff_t)(rest % w->dims[d]) * w->strides[1][d];
        rest /= w->dims[d];
      }
    }
    for (size_t column = 0; column < n; column += TILE) {
      const size_t width = n - column < TILE ? n - column : TILE;
      char *tile_to = to + column * step;
      const char *tile_from = from + (ptrdiff_t)column * from_stride;
      if (step == 4) {
        copy_tile_4(height, width, tile_to, to_stride, tile_from, from_stride);
      } else if (step == 8) {
        copy_tile_8(height, width, tile_to, to_stride, tile_from, from_stride);
      } else {
        copy_tile_1(height, width, tile_to, to_stride, tile_from, from_stride);
      }
    }
  }
}

/* Copies to an output without gaps of `dims` from an input whose axis d, in the output's order, has strides[d]. */
static void permute(const dynq_op_node *node, size_t rank, const size_t *dims, const ptrdiff_t *strides) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Transpose, data), *out = node->outputs[0];
  const size_t size = dynq_dtype_size(x->dtype);
  ptrdiff_t to_strides[DYNQ_MAX_RANK], step = (ptrdiff_t)size;
  dynq_walk walk;
  if (out->count == 0) {
    return;
  }
  for (size_t d = rank; d-- > 0;) {
    to_strides[d] = step;
    step *= (ptrdiff_t)dims[d];
  }
  dynq_walk_begin_strided(&walk, rank, dims, out->data, to_strides);
  dynq_walk_add_strided(&walk, x->data, strides);
  walk.inner = dynq_walk_copy;
  walk.context = &size;
  dynq_walk_collapse(&walk);
  size_t fastest = 0;
  while (fastest + 1 < walk.rank && walk.strides[1][fastest] != (ptrdiff_t)size) {
    fastest++;
  }
  if (fastest + 1 == walk.rank) {
    dynq_walk_run(node, &walk);
    return;
  }
  const tile_job job = {&walk, size, fastest};
  const size_t blocks = (walk.dims[fastest] + TILE - 1) / TILE;
  const size_t others = out->count / walk.dims[fastest] / walk.dims[walk.rank - 1];
  dynq_op_parallel(node, others * blocks, out->count * sizeof(float), transpose_tiles, &job);
}

/* ---- Transpose ---- */

static dynq_status permutation(const dynq_op_node *node, size_t *perm) {
  const dynq_attribute *a = &node->attributes[DYNQ_ATTR(Transpose, perm)];
  const size_t rank = DYNQ_INPUT(node, Transpose, data)->rank;
  unsigned set = 0;
  if (a->present && a->count != rank) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "perm has %zu axes; the tensor has %zu dimensions", a->count, rank);
  }
  for (size_t d = 0; d < rank; d++) {
    perm[d] = rank - 1 - d;
  }
  return a->present ? dynq_op_axes(rank, a->ints, rank, perm, &set) : DYNQ_OK;
}

static dynq_status infer_transpose(dynq_op_node *node) {
  size_t perm[DYNQ_MAX_RANK], dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Transpose, data), DYNQ_SET_ANY));
  DYNQ_TRY(permutation(node, perm));
  const dynq_op_tensor *x = DYNQ_INPUT(node, Transpose, data);
  for (size_t d = 0; d < x->rank; d++) {
    dims[d] = x->dims[perm[d]];
  }
  dynq_op_set_output(node, 0, x->dtype, x->rank, dims);
  return DYNQ_OK;
}

static dynq_status run_transpose(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Transpose, data);
  size_t perm[DYNQ_MAX_RANK];
  ptrdiff_t own[DYNQ_MAX_RANK], strides[DYNQ_MAX_RANK];
  DYNQ_TRY(permutation(node, perm));
  dynq_strides(x, own);
  for (size_t d = 0; d < x->rank; d++) {
    strides[d] = own[perm[d]];
  }
  permute(node, x->rank, node->outputs[0]->dims, strides);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Transpose = {infer_transpose, run_transpose};

/* ---- DepthToSpace, SpaceToDepth: an image (N, C, H, W) and blocks of b x b pixels ---- */

DYNQ_SAME_IN(DepthToSpace, input, SpaceToDepth, input);
DYNQ_SAME_ATTR(DepthToSpace, SpaceToDepth, blocksize);
DYNQ_SAME_ATTR(DepthToSpace, SpaceToDepth, mode);

/* Checks the input and both attributes. */
static dynq_status block_size(const dynq_op_node *node, size_t *block) {
  const int64_t size = dynq_op_int(node, DYNQ_ATTR(DepthToSpace, blocksize));
  const char *mode = dynq_op_string(node, DYNQ_ATTR(DepthToSpace, mode));
  if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "mode is '%.40s'; expected DCR or CRD", mode);
  }
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(DepthToSpace, input), DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_expect_rank(node, DYNQ_IN(DepthToSpace, input), 4));
  if (size < 1 || size > 65536) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "blocksize is %lld; expected 1 to 65536", (long long)size);
  }
  *block = (size_t)size;
  return DYNQ_OK;
}

static dynq_status infer_depth_to_space(dynq_op_node *node) {
  size_t b = 1;
  DYNQ_TRY(block_size(node, &b));
  const dynq_op_tensor *x = DYNQ_INPUT(node, DepthToSpace, input);
  if (x->dims[1] % (b * b) != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%zu channels; expected a multiple of the %zu pixels of a block",
                     x->dims[1], b * b);
  }
  const size_t dims[4] = {x->dims[0], x->dims[1] / (b * b), dynq_size_mul(x->dims[2], b), dynq_size_mul(x->dims[3], b)};
  dynq_op_set_output(node, 0, x->dtype, 4, dims);
  return DYNQ_OK;
}

static dynq_status run_depth_to_space(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, DepthToSpace, input), *out = node->outputs[0];
  const size_t b = (size_t)node->attributes[DYNQ_ATTR(DepthToSpace, blocksize)].i, channels = out->dims[1];
  const bool crd = dynq_op_string_is(node, DYNQ_ATTR(DepthToSpace, mode), "CRD");
  ptrdiff_t own[DYNQ_MAX_RANK];
  dynq_strides(x, own);
  const ptrdiff_t blocks = (ptrdiff_t)b, depth = (ptrdiff_t)channels;
  /* (N, C, H, b, W, b) */
  const size_t dims[6] = {x->dims[0], channels, x->dims[2], b, x->dims[3], b};
  const ptrdiff_t strides[6] = {own[0], own[1] * (crd ? blocks * blocks : 1),
                                own[2], own[1] * (crd ? blocks : blocks * depth),
                                own[3], own[1] * (crd ? 1 : depth)};
  permute(node, 6, dims, strides);
  return DYNQ_OK;
}

static dynq_status infer_space_to_depth(dynq_op_node *node) {
  size_t b = 1;
  DYNQ_TRY(block_size(node, &b));
  const dynq_op_tensor *x = DYNQ_INPUT(node, SpaceToDepth, input);
  if (x->dims[2] % b != 0 || x->dims[3] % b != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "an image of %zu x %zu; expected multiples of the block size %zu",
                     x->dims[2], x->dims[3], b);
  }
  const size_t dims[4] = {x->dims[0], dynq_size_mul(x->dims[1], b * b), x->dims[2] / b, x->dims[3] / b};
  dynq_op_set_output(node, 0, x->dtype, 4, dims);
  return DYNQ_OK;
}

static dynq_status run_space_to_depth(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, SpaceToDepth, input), *out = node->outputs[0];
  const size_t b = (size_t)node->attributes[DYNQ_ATTR(SpaceToDepth, blocksize)].i;
  ptrdiff_t own[DYNQ_MAX_RANK];
  dynq_strides(x, own);
  const ptrdiff_t blocks = (ptrdiff_t)b;
  /* (N, b, b, C, H / b, W / b), or (N, C, b, b, H / b, W / b) */
  const size_t dims[6] = {x->dims[0], b, b, x->dims[1], out->dims[2], out->dims[3]};
  const ptrdiff_t strides[6] = {own[0], own[2], own[3], own[1], own[2] * blocks, own[3] * blocks};
  const size_t crd_dims[6] = {x->dims[0], x->dims[1], b, b, out->dims[2], out->dims[3]};
  const ptrdiff_t crd_strides[6] = {own[0], own[1], own[2], own[3], own[2] * blocks, own[3] * blocks};
  const bool crd = dynq_op_string_is(node, DYNQ_ATTR(SpaceToDepth, mode), "CRD");
  permute(node, 6, crd ? crd_dims : dims, crd ? crd_strides : strides);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_DepthToSpace = {infer_depth_to_space, run_depth_to_space};

const dynq_op_code dynq_op_SpaceToDepth = {infer_space_to_depth, run_space_to_depth};
