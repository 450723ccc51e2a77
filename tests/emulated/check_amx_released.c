/*
 * check_amx_released: no thread that worked for the library is left with tiles in use, whatever the shapes.
 *
 * Runs under the trap, or on a CPU that has AMX; `amx` must be able to run.
 */
#include "check.h"

#include <string.h>

/* The bytes that sttilecfg stores: all zero if no configuration is loaded. */
static bool tiles_are_free(void) {
  uint8_t configuration[64];
  memset(configuration, 0xff, sizeof configuration);
  __asm__ volatile("sttilecfg %0" : "=m"(configuration));
  for (size_t i = 0; i < sizeof configuration; i++) {
    if (configuration[i] != 0) {
      return false;
    }
  }
  return true;
}

/* A pool that looks at the tiles after each task, on the thread that did it. */
static void run_and_look(void *context, void (*task)(void *arg, size_t index), void *arg, size_t count) {
  size_t *tasks = context;
  for (size_t i = 0; i < count; i++, (*tasks)++) {
    task(arg, i);
    CHECK(tiles_are_free());
  }
}

static void check_linear(size_t m, size_t n, size_t k, size_t threads) {
  size_t tasks = 0;
  const dynq_threads pool = {.count = threads, .run = run_and_look, .context = &tasks};
  float *x = guarded_f32(m * k), *w = guarded_f32(n * k), *y = guarded_f32(m * n);
  dynq_weight *weight = NULL;
  check_case("m %zu, n %zu, k %zu, %zu threads", m, n, k, threads);
  fill_f32(FILL_UNIT, x, m * k);
  fill_f32(FILL_UNIT, w, n * k);
  CHECK_STATUS(DYNQ_OK, dynq_weight_pack_f32(n, k, w, k, 1, NULL, &weight));
  CHECK_STATUS(DYNQ_OK, dynq_linear_f32(weight, m, x, k, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, &pool, y, n));
  CHECK(tiles_are_free() && (threads == 1 || tasks != 0));
  dynq_weight_free(weight);
  guards_release();
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  check_begin("amx", "tiles are given back");
  CHECK_STATUS(DYNQ_OK, dynq_isa_select("amx"));
  check_linear(1, 64, 64, 1);
  check_linear(16, 16, 20, 1);
  check_linear(33, 50, 130, 1);
  check_linear(70, 100, 1000, 1);
  check_linear(130, 1024, 64, 3); /* worth two threads: split by rows, then by panels */
  check_linear(8, 4096, 256, 4);
  check_end();
  return check_finish();
}
