/*
 * Layers of dynq as custom ops of ONNX Runtime, in the domain "dynq". Built into libdynq_ort.so and into the Python
 * extension; ONNX Runtime calls RegisterCustomOps of either.
 *
 * A node's first input is a constant: the bytes of a .dynq file with the layer alone. Its other inputs and its outputs
 * are those of that model, the outputs float32. So all ops are one kernel, and a layer gives the bits that it gives in
 * dynq. Work runs on the threads of ONNX Runtime's session.
 */
#include "api.h"

#include <dynq/dynq.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 }; /* of dynq_model_open_memory's bytes */

/* Those of python/dynq/exporters/onnx/layer.py. */
static const char *const names[] = {"DynqLinear", "DynqConv",   "DynqLSTM",     "DynqGRU",
                                    "DynqRNN",    "DynqMatMul", "DynqAttention"};
enum { OPS = sizeof names / sizeof names[0] };

/* The memory of one run. A session of ONNX Runtime may run a kernel in several threads at once. */
typedef struct run {
  struct run *next;
  const ort_api *api;
  ort_context *context;
  bool failed; /* ONNX Runtime's threads did not do all of their work */
  dynq_threads threads;
  dynq_session *session;
  dynq_tensor *inputs, *outputs;
} run;

typedef struct kernel {
  const ort_api *api;
  void *copy; /* of the layer's bytes, where ONNX Runtime's are not aligned */
  dynq_model *model;
  size_t inputs, outputs;
  pthread_mutex_t mutex;
  run *idle;
} kernel;

static ort_status *fail(const ort_api *api, const char *message) { return api->create_status(ORT_CODE_FAIL, message); }

/* ---- Threads ---- */

typedef struct job {
  void (*task)(void *arg, size_t index);
  void *arg;
} job;

static void do_job(void *data, size_t index) {
  const job *self = data;
  self->task(self->arg, index);
}

static void run_parallel(void *context, void (*task)(void *arg, size_t index), void *arg, size_t count) {
  run *self = context;
  job data = {.task = task, .arg = arg};
  ort_status *status = self->api->parallel_for(self->context, do_job, count, 0, &data);
  if (status != NULL) {
    self->api->release_status(status);
    self->failed = true;
  }
}

/* ---- Kernels ---- */

static void free_run(run *r) {
  if (r != NULL) {
    dynq_session_free(r->session);
    free(r->inputs);
    free(r->outputs);
    free(r);
  }
}

static void destroy_kernel(void *data) {
  kernel *k = data;
  while (k->idle != NULL) {
    run *next = k->idle->next;
    free_run(k->idle);
    k->idle = next;
  }
  dynq_model_close(k->model);
  free(k->copy);
  (void)pthread_mutex_destroy(&k->mutex);
  free(k);
}

/* Opens the model in the node's first input. */
static ort_status *open_image(kernel *k, const ort_info *info) {
  const ort_api *api = k->api;
  int is_constant = 0;
  const ort_value *value = NULL;
  ort_status *status = api->get_constant_input(info, 0, &is_constant, &value);
  if (status != NULL) {
    return status;
  }
  if (!is_constant || value == NULL) {
    return fail(api, "dynq: the layer, input 0, is no constant; expected the bytes of a .dynq file as an initializer");
  }
  ort_shape *shape = NULL;
  size_t size = 0;
  void *bytes = NULL;
  if ((status = api->get_shape(value, &shape)) == NULL) {
    status = api->get_element_count(shape, &size);
    api->release_shape(shape);
  }
  if (status != NULL || (status = api->get_data((ort_value *)(uintptr_t)value, &bytes)) != NULL) {
    return status;
  }
  if ((uintptr_t)bytes % ALIGNMENT != 0) {
    if ((k->copy = aligned_alloc(ALIGNMENT, (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)) == NULL) {
      return fail(api, "dynq: no memory for a layer that is not aligned");
    }
    bytes = memcpy(k->copy, bytes, size);
  }
  return dynq_model_open_memory(bytes, size, &k->model) == DYNQ_OK ? NULL : fail(api, dynq_last_error());
}

static ort_status *create_kernel(const ort_op *op, const ort_api *api, const ort_info *info, void **made) {
  (void)op;
  kernel *k = calloc(1, sizeof *k);
  if (k == NULL) {
    return fail(api, "dynq: no memory for a layer");
  }
  k->api = api;
  (void)pthread_mutex_init(&k->mutex, NULL);
  ort_status *status = open_image(k, info);
  size_t inputs = 0, outputs = 0;
  if (status == NULL && (status = api->get_input_count(info, &inputs)) == NULL &&
      (status = api->get_output_count(info, &outputs)) == NULL) {
    k->inputs = dynq_model_input_count(k->model);
    k->outputs = dynq_model_output_count(k->model);
    if (inputs != k->inputs + 1 || outputs != k->outputs) {
      status = fail(api, "dynq: the node has another number of inputs or outputs than its layer");
    }
  }
  if (status != NULL) {
    destroy_kernel(k);
    return status;
  }
  *made = k;
  return NULL;
}

/* ---- Runs ---- */

/* Takes an idle run, or makes one; NULL if that fails. */
static run *take_run(kernel *k) {
  (void)pthread_mutex_lock(&k->mutex);
  run *r = k->idle;
  if (r != NULL) {
    k->idle = r->next;
  }
  (void)pthread_mutex_unlock(&k->mutex);
  if (r != NULL || (r = calloc(1, sizeof *r)) == NULL) {
    return r;
  }
  r->api = k->api;
  r->threads = (dynq_threads){.count = 1, .run = run_parallel, .context = r};
  r->inputs = calloc(k->inputs + 1, sizeof *r->inputs); /* 0 of them are no failure */
  r->outputs = calloc(k->outputs + 1, sizeof *r->outputs);
  if (r->inputs == NULL || r->outputs == NULL || dynq_session_new(k->model, &r->threads, &r->session) != DYNQ_OK) {
    free_run(r);
    return NULL;
  }
  return r;
}

static void give_run(kernel *k, run *r) {
  (void)pthread_mutex_lock(&k->mutex);
  r->next = k->idle;
  k->idle = r;
  (void)pthread_mutex_unlock(&k->mutex);
}

static bool dtype_of(ort_type type, dynq_dtype *dtype) {
  switch (type) {
  case ORT_FLOAT:
    *dtype = DYNQ_FLOAT32;
    return true;
  case ORT_UINT8:
    *dtype = DYNQ_UINT8;
    return true;
  case ORT_INT8:
    *dtype = DYNQ_INT8;
    return true;
  case ORT_INT32:
    *dtype = DYNQ_INT32;
    return true;
  case ORT_INT64:
    *dtype = DYNQ_INT64;
    return true;
  case ORT_BOOL:
    *dtype = DYNQ_BOOL;
    return true;
  case ORT_UNDEFINED:
    break;
  }
  return false;
}

static ort_status *read_input(const ort_api *api, const ort_context *context, size_t index, dynq_tensor *tensor) {
  const ort_value *value = NULL;
  ort_status *status = api->get_input(context, index, &value);
  if (status != NULL) {
    return status;
  }
  if (value == NULL) {
    return fail(api, "dynq: an input is left out that the layer has");
  }
  ort_shape *shape = NULL;
  ort_type type = ORT_UNDEFINED;
  size_t rank = 0;
  int64_t dims[DYNQ_MAX_RANK];
  void *data = NULL;
  if ((status = api->get_shape(value, &shape)) != NULL) {
    return status;
  }
  if ((status = api->get_type(shape, &type)) == NULL && (status = api->get_rank(shape, &rank)) == NULL) {
    status = rank > DYNQ_MAX_RANK ? fail(api, "dynq: an input has more than 8 dimensions")
                                  : api->get_dims(shape, dims, rank);
  }
  api->release_shape(shape);
  if (status != NULL || (status = api->get_data((ort_value *)(uintptr_t)value, &data)) != NULL) {
    return status; /* the data is only read */
  }
  *tensor = (dynq_tensor){.rank = rank, .data = data};
  for (size_t i = 0; i < rank; i++) {
    tensor->dims[i] = (size_t)dims[i];
  }
  return dtype_of(type, &tensor->dtype) ? NULL : fail(api, "dynq: an input has a type that dynq does not have");
}

static ort_status *write_output(const ort_api *api, ort_context *context, size_t index, const dynq_tensor *tensor) {
  int64_t dims[DYNQ_MAX_RANK];
  size_t bytes = sizeof(float);
  for (size_t i = 0; i < tensor->rank; i++) {
    dims[i] = (int64_t)tensor->dims[i];
    bytes *= tensor->dims[i];
  }
  if (tensor->dtype != DYNQ_FLOAT32) {
    return fail(api, "dynq: an output of the layer is not float32");
  }
  ort_value *value = NULL;
  void *data = NULL;
  ort_status *status = api->get_output(context, index, dims, tensor->rank, &value);
  if (status == NULL && value != NULL && (status = api->get_data(value, &data)) == NULL && bytes != 0) {
    memcpy(data, tensor->data, bytes);
  }
  return status;
}

static ort_status *compute_with(const kernel *k, run *r, ort_context *context) {
  const ort_api *api = k->api;
  ort_status *status = NULL;
  for (size_t i = 0; i < k->inputs && status == NULL; i++) {
    status = read_input(api, context, i + 1, &r->inputs[i]);
  }
  if (status != NULL) {
    return status;
  }
  r->context = context;
  r->failed = false;
  if (dynq_get_num_threads(&r->threads.count) != DYNQ_OK) {
    return fail(api, dynq_last_error());
  }
  const dynq_status result = dynq_model_run(r->session, r->inputs, r->outputs);
  if (r->failed) {
    return fail(api, "dynq: ONNX Runtime's threads failed");
  }
  if (result != DYNQ_OK && result != DYNQ_NONFINITE) {
    return fail(api, dynq_last_error());
  }
  for (size_t i = 0; i < k->outputs && status == NULL; i++) {
    status = write_output(api, context, i, &r->outputs[i]);
  }
  return status;
}

static ort_status *compute(void *data, ort_context *context) {
  kernel *k = data;
  run *r = take_run(k);
  if (r == NULL) {
    return fail(k->api, "dynq: no memory for a run of a layer");
  }
  ort_status *status = compute_with(k, r, context);
  give_run(k, r);
  return status;
}

/* ---- The ops ---- */

typedef struct op {
  ort_op base; /* the first: a pointer to it is one to this */
  const char *name;
} op;

static const char *get_name(const ort_op *self) { return ((const op *)self)->name; }

static const char *get_provider(const ort_op *self) {
  (void)self;
  return NULL;
}

/* The layer, and all others: the model checks their types and sizes. */
static size_t get_inputs(const ort_op *self) {
  (void)self;
  return 2;
}

static size_t get_outputs(const ort_op *self) {
  (void)self;
  return 1;
}

static ort_type get_input_type(const ort_op *self, size_t index) {
  (void)self;
  return index == 0 ? ORT_UINT8 : ORT_UNDEFINED;
}

static ort_type get_output_type(const ort_op *self, size_t index) {
  (void)self;
  (void)index;
  return ORT_FLOAT;
}

static ort_operand get_input_kind(const ort_op *self, size_t index) {
  (void)self;
  return index == 0 ? ORT_REQUIRED : ORT_VARIADIC;
}

static ort_operand get_output_kind(const ort_op *self, size_t index) {
  (void)self;
  (void)index;
  return ORT_VARIADIC;
}

static int get_memory(const ort_op *self, size_t index) {
  (void)self;
  (void)index;
  return 0; /* where the provider computes */
}

static int one(const ort_op *self) {
  (void)self;
  return 1;
}

static int no(const ort_op *self) {
  (void)self;
  return 0;
}

static op ops[OPS];
static ort_domain *domain; /* ops and domain stay as long as the process */
static pthread_mutex_t domain_mutex = PTHREAD_MUTEX_INITIALIZER;

static ort_status *make_domain(const ort_api *api) {
  ort_status *status = api->create_domain("dynq", &domain);
  for (size_t i = 0; i < OPS && status == NULL; i++) {
    ops[i] = (op){.base = {.version = ORT_VERSION,
                           .get_name = get_name,
                           .get_provider = get_provider,
                           .get_input_type = get_input_type,
                           .get_input_count = get_inputs,
                           .get_output_type = get_output_type,
                           .get_output_count = get_outputs,
                           .destroy_kernel = destroy_kernel,
                           .get_input_kind = get_input_kind,
                           .get_output_kind = get_output_kind,
                           .get_input_memory = get_memory,
                           .get_variadic_input_least = one,
                           .is_variadic_input_of_one_type = no,
                           .get_variadic_output_least = one,
                           .is_variadic_output_of_one_type = one,
                           .create_kernel_v2 = create_kernel,
                           .compute_v2 = compute},
                  .name = names[i]};
    status = api->add_op(domain, &ops[i].base);
  }
  return status;
}

/* Adds the ops to the options of a session. ONNX Runtime calls this after it has opened the library. */
__attribute__((visibility("default"))) ort_status *RegisterCustomOps(ort_options *options, const ort_base *base);

ort_status *RegisterCustomOps(ort_options *options, const ort_base *base) {
  const ort_api *api = base->get_api(ORT_VERSION);
  if (api == NULL) {
    return base->get_api(1)->create_status(ORT_CODE_NOT_IMPLEMENTED, "dynq's ops need ONNX Runtime 1.17 or newer");
  }
  (void)pthread_mutex_lock(&domain_mutex);
  ort_status *status = domain == NULL ? make_domain(api) : NULL;
  (void)pthread_mutex_unlock(&domain_mutex);
  return status == NULL ? api->add_domain(options, domain) : status;
}
