/*
 * XLA's custom call dynq_linear: y = activation(x w^T + bias), by dynq_linear_f32 of the library that Python has loaded.
 *
 * Operands: x float32 (..., K); of the packed weight data int8, scale float32, column_sum int32 and zero_point int32,
 * (0) if it has none; bias float32 (N), or (0). Result: y float32 (..., N). Shapes are checked by _linear.py.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <dynq/dynq.h>
#include <xla/ffi/api/c_api.h>

enum { X, DATA, SCALE, COLUMN_SUM, ZERO_POINT, BIAS, OPERANDS };
enum { ALIGNMENT = 64 }; /* of dynq_weight_view's data; XLA's buffers mostly have it */

static __typeof__(&dynq_weight_view) weight_view;
static __typeof__(&dynq_weight_free) weight_free;
static __typeof__(&dynq_linear_f32) linear;
static __typeof__(&dynq_last_error) last_error;

void dynq_jax_bind(void *view, void *free_weight, void *linear_f32, void *message) {
  weight_view = (__typeof__(weight_view))view;
  weight_free = (__typeof__(weight_free))free_weight;
  linear = (__typeof__(linear))linear_f32;
  last_error = (__typeof__(last_error))message;
}

static XLA_FFI_Error *fail(const XLA_FFI_CallFrame *frame, const char *message) {
  XLA_FFI_Error_Create_Args args = {0};
  args.struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE;
  args.message = message;
  args.errc = XLA_FFI_Error_Code_INTERNAL;
  return frame->api->XLA_FFI_Error_Create(&args);
}

static int64_t attribute(const XLA_FFI_Attrs *attrs, const char *name) {
  for (int64_t i = 0; i < attrs->size; i++) {
    if (attrs->names[i]->len == strlen(name) && memcmp(attrs->names[i]->ptr, name, attrs->names[i]->len) == 0) {
      return *(const int64_t *)((const XLA_FFI_Scalar *)attrs->attrs[i])->value;
    }
  }
  return 0;
}

static XLA_FFI_Error *run(const XLA_FFI_CallFrame *frame) {
  const XLA_FFI_Buffer *in[OPERANDS];
  for (int i = 0; i < OPERANDS; i++) {
    in[i] = frame->args.args[i];
  }
  const XLA_FFI_Buffer *y = frame->rets.rets[0];
  size_t m = 1;
  for (int64_t i = 0; i + 1 < y->rank; i++) {
    m *= (size_t)y->dims[i];
  }
  dynq_weight_info info = {.n = (size_t)y->dims[y->rank - 1], .k = (size_t)in[X]->dims[in[X]->rank - 1]};
  info.n_padded = (size_t)in[SCALE]->dims[0];
  info.data_bytes = (size_t)in[DATA]->dims[0];
  info.data = in[DATA]->data;
  info.scale = in[SCALE]->data;
  info.column_sum = in[COLUMN_SUM]->data;
  info.zero_point = in[ZERO_POINT]->dims[0] != 0 ? in[ZERO_POINT]->data : NULL;
  void *copy = NULL;
  if ((uintptr_t)info.data % ALIGNMENT != 0) {
    if ((copy = aligned_alloc(ALIGNMENT, info.data_bytes)) == NULL) { /* a multiple of 64 */
      return fail(frame, "no memory for a weight that is not aligned");
    }
    info.data = memcpy(copy, info.data, info.data_bytes);
  }
  const dynq_epilogue epilogue = {.bias = in[BIAS]->dims[0] != 0 ? in[BIAS]->data : NULL,
                                  .activation = (dynq_activation)attribute(&frame->attrs, "activation")};
  dynq_weight *weight = NULL;
  dynq_status status = weight_view(&info, &weight);
  if (status == DYNQ_OK) {
    status = linear(weight, m, in[X]->data, info.k, (dynq_scheme)attribute(&frame->attrs, "scheme"),
                    (dynq_granularity)attribute(&frame->attrs, "granularity"), &epilogue, NULL, y->data, info.n);
  }
  XLA_FFI_Error *error = status == DYNQ_OK || status == DYNQ_NONFINITE ? NULL : fail(frame, last_error());
  weight_free(weight);
  free(copy);
  return error;
}

XLA_FFI_Error *dynq_jax_linear(XLA_FFI_CallFrame *frame) {
  /* XLA asks for the version of the interface before the first run. */
  for (XLA_FFI_Extension_Base *base = frame->extension_start; base != NULL; base = base->next) {
    if (base->type == XLA_FFI_Extension_Metadata) {
      XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)base)->metadata;
      metadata->api_version.major_version = XLA_FFI_API_MAJOR;
      metadata->api_version.minor_version = XLA_FFI_API_MINOR;
      return NULL;
    }
  }
  return frame->stage == XLA_FFI_ExecutionStage_EXECUTE ? run(frame) : NULL;
}
