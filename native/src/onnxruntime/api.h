/*
 * The part of ONNX Runtime's C interface that custom_ops.c uses, declared here: few machines have its headers.
 *
 * The interface is a table of functions that only grows, at its end, and a struct that describes an op. What is below
 * has been there, at these places, since version 17 (ONNX Runtime 1.17). tests/engines/ort_api.c compares each place
 * with the header of ONNX Runtime.
 */
#ifndef DYNQ_ONNXRUNTIME_API_H
#define DYNQ_ONNXRUNTIME_API_H

#include <stddef.h>
#include <stdint.h>

enum { ORT_VERSION = 17 };

typedef struct ort_status ort_status; /* NULL: no error */
typedef struct ort_value ort_value;
typedef struct ort_shape ort_shape;
typedef struct ort_options ort_options;
typedef struct ort_domain ort_domain;
typedef struct ort_info ort_info;       /* of a kernel that is being made */
typedef struct ort_context ort_context; /* of a run of a kernel */
typedef struct ort_op ort_op;

typedef enum ort_code { ORT_CODE_FAIL = 1, ORT_CODE_NOT_IMPLEMENTED = 9 } ort_code;

typedef enum ort_type {
  ORT_UNDEFINED = 0,
  ORT_FLOAT = 1,
  ORT_UINT8 = 2,
  ORT_INT8 = 3,
  ORT_INT32 = 6,
  ORT_INT64 = 7,
  ORT_BOOL = 9
} ort_type;

typedef enum ort_operand { ORT_REQUIRED = 0, ORT_VARIADIC = 2 } ort_operand;

typedef void (*ort_unused)(void);

/* Functions return NULL, or a status that is the caller's. */
typedef struct ort_api {
  ort_status *(*create_status)(ort_code code, const char *message);
  ort_unused before_create_domain[25];
  ort_status *(*create_domain)(const char *name, ort_domain **domain);
  ort_status *(*add_op)(ort_domain *domain, const ort_op *op);
  ort_status *(*add_domain)(ort_options *options, ort_domain *domain);
  ort_unused before_get_data[22];
  ort_status *(*get_data)(ort_value *value, void **data);
  ort_unused before_get_type[8];
  ort_status *(*get_type)(const ort_shape *shape, ort_type *type);
  ort_status *(*get_rank)(const ort_shape *shape, size_t *rank);
  ort_status *(*get_dims)(const ort_shape *shape, int64_t *dims, size_t rank);
  ort_unused before_get_element_count[1];
  ort_status *(*get_element_count)(const ort_shape *shape, size_t *count);
  ort_status *(*get_shape)(const ort_value *value, ort_shape **shape);
  ort_unused before_get_input[24];
  ort_status *(*get_input)(const ort_context *context, size_t index, const ort_value **value);
  ort_status *(*get_output)(ort_context *context, size_t index, const int64_t *dims, size_t rank, ort_value **value);
  ort_unused before_release_status[1];
  void (*release_status)(ort_status *status);
  ort_unused before_release_shape[5];
  void (*release_shape)(ort_shape *shape);
  ort_unused before_get_input_count[130];
  ort_status *(*get_input_count)(const ort_info *info, size_t *count);
  ort_status *(*get_output_count)(const ort_info *info, size_t *count);
  ort_unused before_get_constant_input[17];
  /* The value stays the session's. */
  ort_status *(*get_constant_input)(const ort_info *info, size_t index, int *is_constant, const ort_value **value);
  ort_unused before_parallel_for[24];
  /* Calls fn(data, i) for each i in [0, total), from the threads of the session; batches 0: as it likes. */
  ort_status *(*parallel_for)(const ort_context *context, void (*fn)(void *data, size_t index), size_t total,
                              size_t batches, void *data);
} ort_api;

typedef struct ort_base {
  const ort_api *(*get_api)(uint32_t version); /* NULL if the runtime is older */
  const char *(*get_version)(void);
} ort_base;

struct ort_op {
  uint32_t version; /* ORT_VERSION: what follows is as that version has it */
  void *(*create_kernel)(const ort_op *op, const ort_api *api, const ort_info *info); /* unused: create_kernel_v2 */
  const char *(*get_name)(const ort_op *op);
  const char *(*get_provider)(const ort_op *op); /* NULL: the CPU */
  ort_type (*get_input_type)(const ort_op *op, size_t index);
  size_t (*get_input_count)(const ort_op *op);
  ort_type (*get_output_type)(const ort_op *op, size_t index);
  size_t (*get_output_count)(const ort_op *op);
  void (*compute)(void *kernel, ort_context *context); /* unused: compute_v2 */
  void (*destroy_kernel)(void *kernel);
  ort_operand (*get_input_kind)(const ort_op *op, size_t index);
  ort_operand (*get_output_kind)(const ort_op *op, size_t index);
  int (*get_input_memory)(const ort_op *op, size_t index);
  int (*get_variadic_input_least)(const ort_op *op);
  int (*is_variadic_input_of_one_type)(const ort_op *op);
  int (*get_variadic_output_least)(const ort_op *op);
  int (*is_variadic_output_of_one_type)(const ort_op *op);
  ort_status *(*create_kernel_v2)(const ort_op *op, const ort_api *api, const ort_info *info, void **kernel);
  ort_status *(*compute_v2)(void *kernel, ort_context *context);
  ort_status *(*infer_shapes)(const ort_op *op, void *context); /* NULL: sizes are those of each run */
  int (*get_start_version)(const ort_op *op);
  int (*get_end_version)(const ort_op *op);
};

#endif
