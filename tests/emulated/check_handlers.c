/*
 * A program's own handlers work as if nothing stood before them, and faults arrive where and as they would.
 */
#include "check_trapped.h"

#include "illegal.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

enum { UD2_BYTES = 2, FROM_LIBC = 0x04000000 /* SA_RESTORER, which libc may set and leave */ };
static const uint8_t ud2[] = {0x0f, 0x0b}, ldtilecfg[] = {0xc4, 0xe2, 0x78, 0x49, 0x07}; /* (rdi) */

/* Facts that the last handler saw. */
static volatile struct {
  int count, number, code;
  bool signal_blocked, other_blocked;
  greg_t rip;
  uintptr_t address;
} seen;
static sigjmp_buf back;

static void forget(void) {
  seen.count = seen.number = seen.code = 0;
  seen.signal_blocked = seen.other_blocked = false;
  seen.rip = 0;
  seen.address = 0;
}

static void note(int number, siginfo_t *info, void *context) {
  sigset_t mask;
  (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
  seen.count++;
  seen.number = number;
  seen.code = info->si_code;
  seen.address = (uintptr_t)info->si_addr;
  seen.rip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
  seen.signal_blocked = sigismember(&mask, number) != 0;
  seen.other_blocked = sigismember(&mask, SIGUSR2) != 0;
}

static void note_and_skip(int number, siginfo_t *info, void *context) {
  note(number, info, context);
  ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += UD2_BYTES;
}

static void note_and_leave(int number, siginfo_t *info, void *context) {
  note(number, info, context);
  siglongjmp(back, 1);
}

static void leave(int number) {
  seen.count++;
  seen.number = number;
  siglongjmp(back, 1);
}

static void count(int number) {
  seen.count++;
  seen.number = number;
}

static void raise_sigill(int number) {
  (void)number;
  (void)raise(SIGILL);
}

static bool is_blocked(int number) {
  sigset_t mask;
  (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
  return sigismember(&mask, number) != 0;
}

static void run_ud2(const void *unused) {
  (void)unused;
  code_of(ud2, sizeof ud2)(NULL, NULL, 0);
}

static void raise_it(const void *number) { (void)raise(*(const int *)number); }

/* Runs an instruction of ours in between. */
static void check_still_works(void) {
  uint8_t config[CONFIG_BYTES];
  memset(config, 0xff, sizeof config);
  __asm__ volatile("tilerelease\n\tsttilecfg (%0)" : : "r"(config) : "memory");
  CHECK(config[0] == 0 && memcmp(config, config + 1, sizeof config - 1) == 0);
}

static void check_foreign(void) {
  struct sigaction action = {.sa_sigaction = note_and_skip, .sa_flags = SA_SIGINFO}, before, got;
  check_begin("", "a handler gets what is not ours");
  check_case("SA_SIGINFO");
  CHECK(sigaddset(&action.sa_mask, SIGUSR2) == 0);
  CHECK(sigaction(SIGILL, &action, &before) == 0 && sigaction(SIGILL, NULL, &got) == 0);
  CHECK(got.sa_sigaction == note_and_skip && (got.sa_flags & ~FROM_LIBC) == SA_SIGINFO);
  CHECK(sigismember(&got.sa_mask, SIGUSR2) == 1 && sigismember(&got.sa_mask, SIGUSR1) == 0);
  forget();
  code_function *function = code_of(ud2, sizeof ud2);
  function(NULL, NULL, 0);
  CHECK(seen.count == 1 && seen.number == SIGILL && seen.code == ILL_ILLOPN);
  CHECK(seen.rip == (greg_t)(uintptr_t)function && seen.address == (uintptr_t)function);
  CHECK(seen.signal_blocked && seen.other_blocked);
  CHECK(!is_blocked(SIGILL) && !is_blocked(SIGUSR2));
  check_still_works();
  CHECK(seen.count == 1);

  check_case("SA_NODEFER");
  action.sa_flags |= SA_NODEFER;
  CHECK(sigaction(SIGILL, &action, NULL) == 0);
  forget();
  code_of(ud2, sizeof ud2)(NULL, NULL, 0);
  CHECK(seen.count == 1 && !seen.signal_blocked && seen.other_blocked);

  check_case("an illegal use of an instruction of ours");
  const struct sigaction leaving = {.sa_sigaction = note_and_leave, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  const uint8_t tilezero[] = {0xc4, 0xe2, 0x7b, 0x49, 0xc0};
  CHECK(sigaction(SIGILL, &leaving, NULL) == 0);
  function = code_of(tilezero, sizeof tilezero);
  forget();
  if (sigsetjmp(back, 1) == 0) {
    function(NULL, NULL, 0);
  }
  CHECK(seen.count == 1 && seen.number == SIGILL && seen.rip == (greg_t)(uintptr_t)function);
  CHECK(!is_blocked(SIGILL));

  check_case("signal()");
  CHECK(signal(SIGILL, leave) != SIG_ERR && signal(SIGILL, leave) == leave);
  forget();
  if (sigsetjmp(back, 1) == 0) {
    run_ud2(NULL);
  }
  CHECK(seen.count == 1 && seen.number == SIGILL);
  check_still_works();

  check_case("raise()");
  CHECK(signal(SIGILL, count) == leave);
  forget();
  CHECK(raise(SIGILL) == 0 && seen.count == 1);

  check_case(
      "a signal of another's that arrives at an instruction of ours"); /* blocked until then by the trap of int3 */
  const uint8_t int3_tilerelease[] = {0xcc, 0xc4, 0xe2, 0x78, 0x49, 0xc0};
  struct sigaction raising = {.sa_handler = raise_sigill};
  CHECK(sigaddset(&raising.sa_mask, SIGILL) == 0 && sigaction(SIGTRAP, &raising, NULL) == 0);
  forget();
  code_of(int3_tilerelease, sizeof int3_tilerelease)(NULL, NULL, 0);
  CHECK(seen.count == 1 && seen.number == SIGILL);
  CHECK(signal(SIGTRAP, SIG_DFL) == raise_sigill);

  check_case("another signal");
  CHECK(signal(SIGUSR1, count) == SIG_DFL);
  forget();
  CHECK(raise(SIGUSR1) == 0 && seen.count == 1 && seen.number == SIGUSR1);
  CHECK(signal(SIGUSR1, SIG_DFL) == count);
  CHECK(sigaction(SIGILL, &before, NULL) == 0);
  check_end();
}

static void ignored_ud2(const void *unused) {
  (void)signal(SIGILL, SIG_IGN);
  run_ud2(unused);
}
static void ignored_raise(const void *number) {
  (void)signal(SIGILL, SIG_IGN);
  raise_it(number);
}
/* The first is skipped, the second ends the process. */
static void reset_twice(const void *twice) {
  const struct sigaction action = {.sa_sigaction = note_and_skip, .sa_flags = SA_SIGINFO | (int)SA_RESETHAND};
  (void)sigaction(SIGILL, &action, NULL);
  run_ud2(NULL);
  if (*(const int *)twice != 0) {
    run_ud2(NULL);
  }
}

static void check_defaults(void) {
  const int number = SIGILL, once = 0, twice = 1;
  check_begin("", "without a handler it is fatal");
  check_case("ud2");
  CHECK(fatal_signal(run_ud2, NULL) == SIGILL);
  CHECK(fatal_signal(ignored_ud2, NULL) == SIGILL);
  check_case("raise()");
  CHECK(fatal_signal(raise_it, &number) == SIGILL);
  CHECK(fatal_signal(ignored_raise, &number) == 0);
  check_case("SA_RESETHAND");
  CHECK(fatal_signal(reset_twice, &once) == 0);
  CHECK(fatal_signal(reset_twice, &twice) == SIGILL);
  check_end();
}

static void bad_palette(const void *unused) {
  uint8_t config[CONFIG_BYTES] = {2};
  (void)unused;
  code_of(ldtilecfg, sizeof ldtilecfg)(config, NULL, 0);
}
static void blocked_bad_palette(const void *unused) {
  sigset_t mask;
  (void)sigemptyset(&mask);
  (void)sigaddset(&mask, SIGSEGV);
  (void)pthread_sigmask(SIG_BLOCK, &mask, NULL);
  bad_palette(unused);
}
static void ignored_bad_palette(const void *unused) {
  (void)signal(SIGSEGV, SIG_IGN);
  bad_palette(unused);
}

static void check_protection(void) {
  const struct sigaction action = {.sa_sigaction = note_and_leave, .sa_flags = SA_SIGINFO};
  struct sigaction before;
  uint8_t config[CONFIG_BYTES] = {2};
  check_begin("", "#GP is a SIGSEGV at its instruction");
  check_case("a handler");
  CHECK(sigaction(SIGSEGV, &action, &before) == 0);
  code_function *function = code_of(ldtilecfg, sizeof ldtilecfg);
  forget();
  if (sigsetjmp(back, 1) == 0) {
    function(config, NULL, 0);
  }
  CHECK(seen.count == 1 && seen.number == SIGSEGV && seen.code == SI_KERNEL);
  CHECK(seen.rip == (greg_t)(uintptr_t)function && seen.address == 0 && seen.signal_blocked);
  CHECK(!is_blocked(SIGSEGV));
  CHECK(sigaction(SIGSEGV, &before, NULL) == 0);
  check_case("neither blocked nor ignored");
  CHECK(fatal_signal(bad_palette, NULL) == SIGSEGV);
  CHECK(fatal_signal(blocked_bad_palette, NULL) == SIGSEGV);
  CHECK(fatal_signal(ignored_bad_palette, NULL) == SIGSEGV);
  check_end();
}

static void check_errno(void) {
  check_begin("", "errno stays");
  check_case("tilerelease");
  errno = 4711;
  __asm__ volatile("tilerelease" : : : "memory");
  CHECK(errno == 4711);
  check_end();
}

void check_handlers(void) {
  check_foreign();
  check_defaults();
  check_protection();
  check_errno();
}
