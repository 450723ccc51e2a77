/*
 * The struct that says what a Resize is to do, and the functions of the files that compute it.
 */
#ifndef DYNQ_RESIZE_H
#define DYNQ_RESIZE_H

#include "checks.h"

typedef enum dynq_coordinates {
  DYNQ_HALF_PIXEL,
  DYNQ_HALF_PIXEL_SYMMETRIC,
  DYNQ_PYTORCH_HALF_PIXEL,
  DYNQ_ALIGN_CORNERS,
  DYNQ_FROM_CORNER,
  DYNQ_CROP
} dynq_coordinates;
typedef enum dynq_nearest { DYNQ_PREFER_FLOOR, DYNQ_PREFER_CEIL, DYNQ_FLOOR, DYNQ_CEIL } dynq_nearest;
typedef enum dynq_resize_mode { DYNQ_NEAREST, DYNQ_LINEAR, DYNQ_CUBIC } dynq_resize_mode;

typedef struct dynq_resize {
  dynq_resize_mode mode;
  dynq_coordinates coordinates;
  dynq_nearest nearest;
  bool antialias, exclude_outside;
  double cubic_coefficient;
  float extrapolation;
  double scale[DYNQ_MAX_RANK];
  double start[DYNQ_MAX_RANK], end[DYNQ_MAX_RANK]; /* of the crop, in parts of the axis */
  size_t in[DYNQ_MAX_RANK], out[DYNQ_MAX_RANK], rank;
} dynq_resize;

/* Returns the place in the input of place `at` of axis d of the output. */
double dynq_resize_source(const dynq_resize *r, size_t d, double at);
/* Returns whether a place, by its part of the way from one element to the next, counts as the next. */
bool dynq_resize_rounds_up(const dynq_resize *r, double part);

/* ---- resize_taps.c ---- */

/* Returns whether it takes more than two neighbours of an axis, or crops. */
bool dynq_resize_has_taps(const dynq_resize *r);
/* Returns the bytes that it works in; SIZE_MAX on overflow. */
size_t dynq_resize_taps_bytes(const dynq_resize *r);
/* float32; the output is not empty. `memory`: that many bytes, aligned to 64. */
void dynq_resize_taps_run(const dynq_op_node *node, const dynq_resize *r, const float *x, float *y, void *memory);

#endif
