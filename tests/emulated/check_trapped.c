/*
 * check_trapped: the instructions themselves, on a CPU that has them or under LD_PRELOAD=libdynq_trap.so.
 *
 *   check_trapped [--seed N] [--only-vectors]     --only-vectors: VEX-coded products alone, for CPUs without AVX-512
 */
#include "check_trapped.h"

#include "illegal.h"
#include "model.h"
#include "registers.h"

#include <cpuid.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- Code made here ---- */

code_function *code_of(const uint8_t *code, size_t length) {
  static uint8_t *page;
  code_function *function;
  const size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
  if (page == NULL) {
    page = mmap(NULL, bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
      perror("check_trapped: no memory for code");
      exit(2);
    }
  }
  memcpy(page, code, length);
  page[length] = 0xc3; /* ret */
  memcpy(&function, &page, sizeof function);
  return function;
}

int fatal_signal(void (*body)(const void *), const void *argument) {
  int status = 0;
  const pid_t pid = fork();
  if (pid == 0) {
    const struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)signal(SIGILL, SIG_DFL);
    (void)signal(SIGSEGV, SIG_DFL);
    body(argument);
    _exit(0);
  }
  CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
  CHECK(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* ---- vpdpbusd, vpdpwssd ---- */

/* Below the red zone. */
#define CALL(load, store) load "sub $128, %%rsp\n\tcall *%2\n\tadd $128, %%rsp\n\t" store "vzeroall"
static void call_zmm(vector_registers v, const void *memory, code_function *function) {
  __asm__ volatile(CALL(EACH(LOAD_ZMM) EACH_HIGH(LOAD_ZMM), EACH(STORE_ZMM) EACH_HIGH(STORE_ZMM))
                   :
                   : "a"(v), "S"(memory), "c"(function)
                   : CLOBBERS);
}
static void call_ymm(vector_registers v, const void *memory, code_function *function) {
  __asm__ volatile(CALL(EACH(LOAD_YMM), EACH(STORE_YMM)) : : "a"(v), "S"(memory), "c"(function) : CLOBBERS);
}

static void check_vectors(bool evex) {
  const bool zmm = __builtin_cpu_supports("avx512f") != 0;
  check_begin("", evex ? "vector products, EVEX-coded" : "vector products, VEX-coded");
  for (size_t repeat = 0; repeat < 2000; repeat++) {
    static vector_registers before, got;
    const vector_product p = random_product(evex);
    uint8_t code[MOST_CODE], *memory = guarded(product_memory_bytes(&p), 1);
    memset(before, 0, sizeof before);
    for (size_t i = 0; i < (zmm ? VECTORS : VEX_VECTORS); i++) {
      fill_bytes((int)random_below(BYTES_KINDS), before[i], zmm ? 64 : 32);
    }
    fill_bytes((int)random_below(BYTES_KINDS), memory, product_memory_bytes(&p));
    memcpy(got, before, sizeof got);
    say_product(&p);
    code_function *function = code_of(code, code_product(code, &p));
    (zmm ? call_zmm : call_ymm)(got, (const void *)product_address(&p, memory), function);
    model_product(&p, before, memory);
    check_same("vectors", CHECK_BYTES, before, got, sizeof got);
    guards_release();
  }
  check_end();
}

/* ---- Tiles ---- */

enum { GET_PERMISSION = 0x1022, REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };

static const uint8_t full_rows[8] = {16, 16, 16, 16, 16, 16, 16, 16}, full_colsb[8] = {64, 64, 64, 64, 64, 64, 64, 64};

static void load_config(const void *config) { __asm__ volatile("ldtilecfg (%0)" : : "r"(config) : "memory"); }
static void store_config(void *config) { __asm__ volatile("sttilecfg (%0)" : : "r"(config) : "memory"); }
static void release(void) { __asm__ volatile("tilerelease"); }

static void zero_a_tile(const void *config) {
  load_config(config);
  __asm__ volatile("tilezero %%tmm0" : :);
}

/* The library asks in the same way (native/src/base/cpu.c). */
static void check_permission(void) {
  uint8_t config[CONFIG_BYTES];
  unsigned long granted = 0;
  check_begin("", "tiles are there once asked for");
  check_case("before");
  config_make(config, full_rows, full_colsb);
  CHECK(syscall(SYS_arch_prctl, GET_PERMISSION, &granted) == 0 && (granted >> TILE_DATA & 1) == 0);
  CHECK(fatal_signal(zero_a_tile, config) == SIGILL);
  check_case("after");
  CHECK(syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0);
  CHECK(syscall(SYS_arch_prctl, GET_PERMISSION, &granted) == 0 && (granted >> TILE_DATA & 1) != 0);
  CHECK((granted & 7) == 7);
  CHECK(fatal_signal(zero_a_tile, config) == 0);
  check_end();
}

/* C in tmm0, A in tmm3, B in tmm6. */
static void multiply(unsigned kind, const matrix *c, const matrix *a, const matrix *b) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm0" : : "r"(c->at), "r"(c->stride) : "memory");
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm3" : : "r"(a->at), "r"(a->stride) : "memory");
  __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm6" : : "r"(b->at), "r"(b->stride) : "memory");
  switch (kind) {
  case 0:
    __asm__ volatile("tdpbuud %%tmm6, %%tmm3, %%tmm0" : :);
    break;
  case 1:
    __asm__ volatile("tdpbusd %%tmm6, %%tmm3, %%tmm0" : :);
    break;
  case 2:
    __asm__ volatile("tdpbsud %%tmm6, %%tmm3, %%tmm0" : :);
    break;
  default:
    __asm__ volatile("tdpbssd %%tmm6, %%tmm3, %%tmm0" : :);
    break;
  }
  __asm__ volatile("tilestored %%tmm0, (%0,%1,1)" : : "r"(c->at), "r"(c->stride) : "memory");
}

static void check_products(void) {
  check_begin("", "tile products");
  for (size_t repeat = 0; repeat < 1000; repeat++) {
    const size_t m = random_between(1, 16), n = random_between(1, 16), k = random_between(1, 16);
    const uint8_t rows[8] = {[0] = (uint8_t)m, [3] = (uint8_t)m, [6] = (uint8_t)k};
    const uint8_t colsb[8] = {[0] = (uint8_t)(4 * n), [3] = (uint8_t)(4 * k), [6] = (uint8_t)(4 * n)};
    const unsigned kind = (unsigned)random_below(4);
    uint8_t config[CONFIG_BYTES], stored[CONFIG_BYTES];
    const matrix c = random_matrix(m, 4 * n), a = random_matrix(m, 4 * k), b = random_matrix(k, 4 * n);
    matrix expected = c;
    expected.at = guarded(c.span, 1);
    memcpy(expected.at, c.at, c.span);
    check_case("kind %u, m %zu, n %zu, k %zu", kind, m, n, k);
    config_make(config, rows, colsb);
    load_config(config);
    store_config(stored);
    check_same("configuration", CHECK_BYTES, config, stored, sizeof config);
    multiply(kind, &c, &a, &b);
    model_tiles((kind & 2) != 0, (kind & 1) != 0, &expected, &a, &b);
    check_same("C", CHECK_BYTES, expected.at, c.at, c.span);
    guards_release();
  }
  release();
  check_end();
}

/* ---- Threads ---- */

enum { TURNS = 100, TILE_BYTES = 1024 };

typedef struct worker {
  pthread_t thread;
  pthread_barrier_t *barrier;
  uint8_t rows, fill;
  size_t wrong;
} worker;

/* A tile of each thread's own shape and contents keeps them while the other thread works on its own. (What a new thread
 * begins with is not asked: Linux hands it the configuration of the one that made it, the emulator none.) */
static void *work(void *argument) {
  worker *w = argument;
  const uint8_t rows[8] = {w->rows}, colsb[8] = {64};
  uint8_t config[CONFIG_BYTES], stored[CONFIG_BYTES], in[TILE_BYTES], out[TILE_BYTES];
  const size_t stride = 64, bytes = w->rows * stride;
  config_make(config, rows, colsb);
  load_config(config);
  for (size_t turn = 0; turn < TURNS; turn++) {
    memset(in, w->fill + (int)turn, sizeof in);
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm0" : : "r"(in), "r"(stride) : "memory");
    (void)pthread_barrier_wait(w->barrier);
    __asm__ volatile("tilestored %%tmm0, (%0,%1,1)" : : "r"(out), "r"(stride) : "memory");
    (void)pthread_barrier_wait(w->barrier);
    w->wrong += memcmp(in, out, bytes) != 0;
  }
  store_config(stored);
  w->wrong += memcmp(stored, config, sizeof config) != 0;
  release();
  return NULL;
}

static void check_threads(void) {
  pthread_barrier_t barrier;
  worker workers[2] = {{.barrier = &barrier, .rows = 16, .fill = 1}, {.barrier = &barrier, .rows = 7, .fill = 128}};
  uint8_t config[CONFIG_BYTES];
  check_begin("", "each thread has tiles of its own");
  check_case("two threads");
  config_make(config, full_rows, full_colsb);
  load_config(config);
  CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
  for (size_t i = 0; i < 2; i++) {
    CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
  }
  for (size_t i = 0; i < 2; i++) {
    CHECK(pthread_join(workers[i].thread, NULL) == 0);
    CHECK(workers[i].wrong == 0);
  }
  release();
  (void)pthread_barrier_destroy(&barrier);
  check_end();
}

/* ---- Faults ---- */

static void commit(const void *argument) {
  static const uint8_t none[CONFIG_BYTES];
  illegal_use use = *(const illegal_use *)argument;
  uint8_t memory[TILE_BYTES];
  if (memcmp(use.config, none, CONFIG_BYTES) != 0) {
    load_config(use.config);
  }
  code_of(use.code, use.length)(use.loaded, memory, 64);
}

static void read_past_the_end(const void *page) {
  const uint8_t rows[8] = {16}, colsb[8] = {64};
  uint8_t config[CONFIG_BYTES];
  config_make(config, rows, colsb);
  load_config(config);
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm0" : : "r"((const uint8_t *)page - 15 * 64), "r"((size_t)64) : "memory");
}

static void check_illegal(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  check_begin("", "illegal uses are fatal");
  for (size_t n = 0; n < illegal_uses(); n++) {
    illegal_use use;
    illegal_get(n, &use);
    check_case("%s", use.what);
    const int expected = use.protection ? SIGSEGV : SIGILL, got = fatal_signal(commit, &use);
    if (got != expected) {
      check_fail("ended by signal %d, expected %d", got, expected);
    }
  }
  check_case("tileloadd past the end of memory");
  uint8_t *pages = mmap(NULL, 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(pages != MAP_FAILED && mprotect(pages, page, PROT_READ) == 0);
  CHECK(fatal_signal(read_past_the_end, pages + page) == SIGSEGV);
  CHECK(fatal_signal(read_past_the_end, pages + page - 64) == 0);
  (void)munmap(pages, 2 * page);
  check_end();
}

/* ---- The report ---- */

static void count_three(void) {
  uint8_t config[CONFIG_BYTES];
  (void)syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA);
  config_make(config, full_rows, full_colsb);
  load_config(config);
  for (size_t i = 0; i < 3; i++) {
    __asm__ volatile("tilezero %%tmm5" : :);
  }
  if (fork() == 0) {
    __asm__ volatile("tilezero %%tmm5" : :);
    exit(0); /* reports one, not four */
  }
  (void)wait(NULL);
}

static bool cpu_has_tiles(void) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx >> 24 & 1) != 0;
}

/* Checks that what a child emulates is in the file that DYNQ_TRAP_REPORT names, once for each process. */
static void check_report(void) {
  char path[] = "/tmp/check_trapped.XXXXXX", self[] = "/proc/self/exe", flag[] = "--count", text[512] = "", line[64];
  char *arguments[] = {self, flag, NULL};
  int status = -1;
  pid_t pid;
  check_begin("", "the report counts");
  check_case("a child");
  const int file = mkstemp(path);
  CHECK(file >= 0 && setenv("DYNQ_TRAP_REPORT", path, 1) == 0);
  CHECK(posix_spawn(&pid, self, NULL, NULL, arguments, environ) == 0);
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  CHECK(unsetenv("DYNQ_TRAP_REPORT") == 0);
  CHECK(read(file, text, sizeof text - 1) >= 0);
  (void)snprintf(line, sizeof line, "%ld tilezero 3\n", (long)pid);
  CHECK((strstr(text, line) != NULL && strstr(text, " tilezero 1\n") != NULL) == !cpu_has_tiles());
  (void)close(file);
  (void)unlink(path);
  check_end();
}

int main(int argc, char **argv) {
  if (check_flag(argc, argv, "--count")) {
    count_three();
    return 0;
  }
  check_start(argc, argv);
  check_vectors(false);
  if (!check_flag(argc, argv, "--only-vectors")) {
    check_vectors(true);
    check_permission();
    check_products();
    check_threads();
    check_illegal();
    check_handlers();
    check_report();
  }
  return check_finish();
}
