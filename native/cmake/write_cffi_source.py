"""Write the C source of the extension module: ``write_cffi_source.py dynq.h OUTPUT.c``.

The declarations are the header's own text between its two cffi lines, and what is the binding's own: a linear call
whose arguments but the last few are kept in a struct, since converting ten of them from Python takes longer than a
small problem itself; and for PyTorch, which gives addresses as integers and has threads of its own, a linear call on
those threads, and what brings other calls there.
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

LINEAR_CALL_FUNCTION = """
/* float32 x (m, K) and y (m, N), both without gaps between rows. */
static dynq_status call_linear(const linear_call *c, size_t m, const void *x, void *y) {
  dynq_weight_info info;
  dynq_weight_describe(c->weight, &info);
  return dynq_linear_f32(c->weight, m, x, info.k, c->scheme, c->granularity, &c->epilogue, NULL, y, info.n);
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
  torch_enter(threads);
  const dynq_status status = dynq_linear_f32(weight, m, (const float *)x, info.k, DYNQ_ASYMMETRIC, DYNQ_PER_ROW,
                                             &epilogue, NULL, (float *)y, info.n);
  torch_leave();
  return status;
}
"""


def main(header: Path, output: Path) -> None:
    text = header.read_text(encoding="utf-8")
    begin, end = "/* cffi: begin */", "/* cffi: end */"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{header}: expected one {begin} and one {end}")
    ffi = FFI()
    ffi.cdef(text.split(begin)[1].split(end)[0])
    ffi.cdef(LINEAR_CALL + "dynq_status call_linear(const linear_call *c, size_t m, const void *x, void *y);")
    ffi.cdef(TORCH_CALLS)
    functions = LINEAR_CALL + LINEAR_CALL_FUNCTION + TORCH_CALL_FUNCTIONS
    ffi.set_source("dynq._native", '#include "dynq/dynq.h"' + functions, py_limited_api=True)
    ffi.emit_c_code(str(output))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
