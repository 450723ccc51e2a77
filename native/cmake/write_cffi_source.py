"""Write the C source of the extension module: ``write_cffi_source.py dynq.h OUTPUT.c``.

The declarations are the header's own text between its two cffi lines, and what is the binding's own. That is a linear
call whose arguments but the last few are kept in a struct, since converting ten of them from Python takes longer than a
small problem itself. It is also what lets Python's signal handlers run during a long call and end it. PyTorch gives
addresses as integers and has threads of its own: for it there is a linear call on those threads, and what brings other
calls there.
"""

import sys
from pathlib import Path

from cffi import FFI

LINEAR_CALL = """
typedef struct linear_call {
  const dynq_weight *weight;
  dynq_scheme scheme;
  dynq_granularity granularity;
  dynq_epilogue epilogue;
} linear_call;
"""

LINEAR_CALLS = """
dynq_status call_linear(const linear_call *c, size_t m, const void *x, void *y);
dynq_status call_linear_into(const linear_call *c, size_t m, const void *x, const void *residual, int in_place,
                             void *y);
"""

LINEAR_CALL_FUNCTIONS = """
static dynq_status run_linear(const linear_call *c, const dynq_weight_info *info, size_t m, const void *x,
                              const dynq_epilogue *epilogue, void *y) {
  python_call call = {0};
  python_call_begin(&call);
  return python_call_end(
      &call, dynq_linear_f32(c->weight, m, x, info->k, c->scheme, c->granularity, epilogue, NULL, y, info->n));
}

/* float32 x (m, K) and y (m, N), both without gaps between rows. */
static dynq_status call_linear(const linear_call *c, size_t m, const void *x, void *y) {
  dynq_weight_info info;
  dynq_weight_describe(c->weight, &info);
  return run_linear(c, &info, m, x, &c->epilogue, y);
}

static int overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
  return (uintptr_t)a < (uintptr_t)b + b_bytes && (uintptr_t)b < (uintptr_t)a + a_bytes;
}

/* The same, with a residual (m, N) or NULL, or with y in its place. If y overlaps anything else, y is left as it is. */
static dynq_status call_linear_into(const linear_call *c, size_t m, const void *x, const void *residual, int in_place,
                                    void *y) {
  dynq_weight_info info;
  dynq_weight_describe(c->weight, &info);
  const size_t row = info.n * sizeof(float), bytes = m * row;
  dynq_epilogue epilogue = c->epilogue;
  epilogue.residual = in_place ? y : residual;
  epilogue.residual_stride = info.n;
  if (overlap(y, bytes, x, m * info.k * sizeof(float)) ||
      (epilogue.bias != NULL && overlap(y, bytes, epilogue.bias, row)) ||
      (residual != NULL && overlap(y, bytes, residual, bytes))) {
    return DYNQ_ERROR_INVALID_ARGUMENT;
  }
  return run_linear(c, &info, m, x, &epilogue, y);
}
"""

ARRAY_CALLS = """
dynq_status call_minmax(size_t m, size_t k, const void *x, size_t x_stride, int granularity, void *lo, void *hi);
dynq_status call_quantize(size_t m, size_t k, const void *x, size_t x_stride, int scheme, int granularity, int type,
                          void *q, void *scale, void *zero_point);
dynq_status call_dequantize(size_t m, size_t k, const void *q, size_t q_stride, int granularity, int type,
                            const void *scale, const void *zero_point, void *x);
dynq_status call_gemm_s32(const dynq_weight *weight, size_t m, const void *q, size_t q_stride, int type,
                          int granularity, const void *zero_point, void *acc);
dynq_status call_matmul(size_t batch, size_t m, size_t n, size_t k, const void *a, size_t a_batch_stride,
                        const void *b, size_t b_batch_stride, int scheme, int granularity, void *y);
"""

ARRAY_CALL_FUNCTIONS = """
/* The functions on arrays: results have no gaps between rows, and a signal handler may end the call. */
static dynq_status call_minmax(size_t m, size_t k, const void *x, size_t x_stride, int granularity, void *lo,
                               void *hi) {
  python_call call = {0};
  python_call_begin(&call);
  return python_call_end(&call, dynq_minmax_f32(m, k, x, x_stride, (dynq_granularity)granularity, NULL, lo, hi));
}

/* zero_point is of the type of q. */
static dynq_status call_quantize(size_t m, size_t k, const void *x, size_t x_stride, int scheme, int granularity,
                                 int type, void *q, void *scale, void *zero_point) {
  enum { FEW = 64 };
  const size_t count = granularity == DYNQ_PER_ROW ? m : 1;
  int32_t few[FEW], *wide = count <= FEW ? few : dynq_alloc(count * sizeof *wide);
  if (wide == NULL) {
    return dynq_fail_memory(count * sizeof *wide);
  }
  python_call call = {0};
  python_call_begin(&call);
  const dynq_status status = python_call_end(
      &call, dynq_quantize_dynamic_f32(m, k, x, x_stride, (dynq_scheme)scheme, (dynq_granularity)granularity,
                                       (dynq_type)type, NULL, q, k, scale, wide));
  for (size_t i = 0; status == DYNQ_OK && i < count; i++) {
    ((uint8_t *)zero_point)[i] = (uint8_t)wide[i];
  }
  if (wide != few) {
    dynq_free(wide);
  }
  return status;
}

static dynq_status call_dequantize(size_t m, size_t k, const void *q, size_t q_stride, int granularity, int type,
                                   const void *scale, const void *zero_point, void *x) {
  python_call call = {0};
  python_call_begin(&call);
  return python_call_end(&call, dynq_dequantize_f32(m, k, q, q_stride, (dynq_granularity)granularity,
                                                    (dynq_type)type, scale, zero_point, NULL, x, k));
}

static dynq_status call_gemm_s32(const dynq_weight *weight, size_t m, const void *q, size_t q_stride, int type,
                                 int granularity, const void *zero_point, void *acc) {
  dynq_weight_info info;
  dynq_weight_describe(weight, &info);
  python_call call = {0};
  python_call_begin(&call);
  return python_call_end(&call, dynq_gemm_s32(weight, m, q, q_stride, (dynq_type)type,
                                              (dynq_granularity)granularity, zero_point, NULL, acc, info.n));
}

static dynq_status call_matmul(size_t batch, size_t m, size_t n, size_t k, const void *a, size_t a_batch_stride,
                               const void *b, size_t b_batch_stride, int scheme, int granularity, void *y) {
  python_call call = {0};
  python_call_begin(&call);
  return python_call_end(&call, dynq_matmul_f32(batch, m, n, k, a, a_batch_stride, k, b, b_batch_stride, n, 1,
                                                (dynq_scheme)scheme, (dynq_granularity)granularity, NULL, y, m * n,
                                                n));
}
"""

INTERRUPTS = """
extern "Python" int python_signals(void);
void interrupts_from(uintptr_t thread);
int poll_python(void *context);

typedef struct python_call { ...; } python_call;
void python_call_begin(python_call *call);
dynq_status python_call_end(python_call *call, dynq_status status);
"""

INTERRUPT_FUNCTIONS = """
#include <pthread.h>

static int python_signals(void);

/* Python runs signal handlers in its main thread alone; another thread that asked would only wait for the interpreter's
 * lock, and would never come back while the interpreter shuts down. */
static uintptr_t interrupted_thread;

static void interrupts_from(uintptr_t thread) { interrupted_thread = thread; }

static int poll_python(void *context) {
  (void)context;
  return (uintptr_t)pthread_self() == interrupted_thread ? python_signals() : 0;
}

/* A call that Python's signal handlers may end. */
typedef struct python_call {
  dynq_interrupt run;
  dynq_interrupt_scope before;
  bool begun;
} python_call;

static void python_call_begin(python_call *call) {
  call->run.poll = (uintptr_t)pthread_self() == interrupted_thread ? poll_python : NULL;
  call->before = dynq_interrupt_begin(&call->run);
  call->begun = true;
}

/* Returns the status of the call, or that it was ended. */
static dynq_status python_call_end(python_call *call, dynq_status status) {
  if (!call->begun) {
    return status;
  }
  status = dynq_interrupted() ? DYNQ_CANCELLED : status;
  (void)dynq_interrupt_enter(call->before);
  return status;
}
"""

TORCH_CALLS = """
void torch_openmp(uintptr_t parallel, uintptr_t thread_num, uintptr_t num_threads);
void torch_enter(size_t threads);
void torch_leave(void);
dynq_status torch_linear(const dynq_weight *weight, size_t threads, size_t m, uintptr_t x, uintptr_t bias, uintptr_t y);
"""

TORCH_CALL_FUNCTIONS = """
#include <pthread.h>
#include <stdatomic.h>

void dynq_threads_here(const dynq_threads *pool, size_t limit); /* threads.h */

/* The OpenMP runtime that PyTorch runs on: GOMP_parallel, omp_get_thread_num, omp_get_num_threads. With one pool no
 * thread spins in the way of another. A forked child has none of its threads and uses dynq's own pool. */
static struct {
  void (*parallel)(void (*work)(void *data), void *data, unsigned threads, unsigned flags);
  int (*thread_num)(void);
  int (*num_threads)(void);
} openmp;

typedef struct openmp_job {
  void (*task)(void *arg, size_t index);
  void *arg;
  size_t count;
  _Atomic size_t next;
} openmp_job;

static void openmp_work(void *data) {
  openmp_job *job = data;
  const size_t team = (size_t)openmp.num_threads();
  for (size_t i = (size_t)openmp.thread_num(); i < job->count; i = team + atomic_fetch_add(&job->next, 1)) {
    job->task(job->arg, i);
  }
}

static void openmp_run(void *context, void (*task)(void *arg, size_t index), void *arg, size_t count) {
  const dynq_threads *self = context;
  openmp_job job = {.task = task, .arg = arg, .count = count};
  openmp.parallel(openmp_work, &job, (unsigned)(self->count < count ? self->count : count), 0);
}

static void openmp_forget(void) { openmp.parallel = NULL; }

static void torch_openmp(uintptr_t parallel, uintptr_t thread_num, uintptr_t num_threads) {
  openmp.parallel = (void (*)(void (*)(void *), void *, unsigned, unsigned))parallel;
  openmp.thread_num = (int (*)(void))thread_num;
  openmp.num_threads = (int (*)(void))num_threads;
  (void)pthread_atfork(NULL, NULL, openmp_forget);
}

static _Thread_local dynq_threads torch_threads = {.run = openmp_run};

/* Until torch_leave this thread's calls use at most so many threads, PyTorch's where it has told of them. */
static void torch_enter(size_t threads) {
  torch_threads.count = threads;
  torch_threads.context = &torch_threads;
  dynq_threads_here(openmp.parallel != NULL ? &torch_threads : NULL, threads);
}

static void torch_leave(void) { dynq_threads_here(NULL, 0); }

/* float32 x (m, K), bias (N) or 0, y (m, N), without gaps between rows. */
static dynq_status torch_linear(const dynq_weight *weight, size_t threads, size_t m, uintptr_t x, uintptr_t bias,
                                uintptr_t y) {
  dynq_weight_info info;
  dynq_weight_describe(weight, &info);
  const dynq_epilogue epilogue = {.bias = (const float *)bias};
  python_call call = {0};
  python_call_begin(&call);
  torch_enter(threads);
  const dynq_status status = dynq_linear_f32(weight, m, (const float *)x, info.k, DYNQ_ASYMMETRIC, DYNQ_PER_ROW,
                                             &epilogue, NULL, (float *)y, info.n);
  torch_leave();
  return python_call_end(&call, status);
}
"""


def main(header: Path, output: Path) -> None:
    text = header.read_text(encoding="utf-8")
    begin, end = "/* cffi: begin */", "/* cffi: end */"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{header}: expected one {begin} and one {end}")
    ffi = FFI()
    ffi.cdef(text.split(begin)[1].split(end)[0])
    ffi.cdef(LINEAR_CALL + LINEAR_CALLS + ARRAY_CALLS)
    ffi.cdef(INTERRUPTS)
    ffi.cdef(TORCH_CALLS)
    functions = INTERRUPT_FUNCTIONS + LINEAR_CALL + LINEAR_CALL_FUNCTIONS
    functions += ARRAY_CALL_FUNCTIONS + TORCH_CALL_FUNCTIONS
    headers = '#include "base/alloc.h"\n#include "base/interrupt.h"\n#include "base/status.h"\n#include "dynq/dynq.h"\n'
    ffi.set_source("dynq._native", headers + functions, py_limited_api=True)
    ffi.emit_c_code(str(output))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
