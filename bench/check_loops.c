/*
 * The loops that measure memory stay within their bytes: after each buffer lies a page that cannot be touched. For every
 * instruction set that runs here; a fault is told with the name of the loop.
 */
#include "loops.h"

#include "dynq/dynq.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const size_t in_per_4[BENCH_MIXES] = {4, 4, 1, 4}, out_per_4[BENCH_MIXES] = {0, 1, 4, 4};
static const char *const mixes[BENCH_MIXES] = {"read", "narrow", "widen", "copy"};
static char at_hand[64];
static int length_at_hand;

static void faulted(int signal) {
  (void)signal;
  (void)!write(STDERR_FILENO, at_hand, (size_t)length_at_hand);
  _exit(1);
}

/* The end of a mapping, behind which nothing may be touched. */
static char *guarded_end(size_t bytes) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (bytes + page - 1) / page * page;
  char *p = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED || mprotect(p + size, page, PROT_NONE) != 0) {
    perror("check_loops: mmap");
    exit(2);
  }
  return p + size;
}

int main(void) {
  enum { MOST = 3072 };
  char *in = guarded_end(MOST), *out = guarded_end(MOST);
  size_t checked = 0;
  (void)signal(SIGSEGV, faulted);
  for (size_t i = 0; i < dynq_isa_count(); i++) {
    const char *name = dynq_isa_name(i);
    if (dynq_isa_supported(name) != DYNQ_OK) {
      continue;
    }
    for (size_t mix = 0; mix < BENCH_MIXES; mix++) {
      for (size_t bytes = 1024; bytes <= MOST; bytes += 1024) {
        length_at_hand = snprintf(at_hand, sizeof at_hand, "%s, %s: beyond %zu bytes\n", name, mixes[mix], bytes);
        bench_loops_of(name)[mix](bytes, 2, in - bytes / 4 * in_per_4[mix], out - bytes / 4 * out_per_4[mix]);
        checked++;
      }
    }
  }
  (void)printf("%zu loops and sizes stay within their bytes\n", checked);
  return checked == 0;
}
