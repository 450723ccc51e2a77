/*
 * libdynq_trap.so: with LD_PRELOAD it lets a program run AMX (tiles and int8) and vpdpbusd and vpdpwssd (VEX- and EVEX-coded, the latter
 * without masks) on an x86-64 Linux machine that lacks them. An instruction that the CPU has never comes here: it runs as it is.
 *
 * It keeps SIGILL for itself. A program's own handler is remembered and called for what is not ours; an illegal use of
 * an instruction of ours ends as on the hardware: SIGILL for #UD and #NM, SIGSEGV for #GP. It also answers the request
 * for the tiles that Linux would refuse, which has to come through libc's syscall().
 *
 *   DYNQ_TRAP_REPORT=FILE   when the program exits, appends a line "PID MNEMONIC COUNT" for each instruction emulated
 *
 * It has two limits. A program that blocks SIGILL dies at the first instruction, as it would by any fault that it
 * blocks. A signal handler sees the tiles of the code that it interrupts, while Linux would show it none.
 */
#include "frame.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

enum { GET_PERMISSION = 0x1022, REQUEST_PERMISSION = 0x1023, TILE_CONFIG = 17, TILE_DATA = 18 }; /* arch_prctl */

typedef int sigaction_function(int, const struct sigaction *, struct sigaction *);
typedef void (*signal_handler)(int);

static _Thread_local trap_tiles tiles __attribute__((tls_model("initial-exec")));
static atomic_bool permitted;
static atomic_ullong counts[TRAP_NAMES];

/* The next definition of a function that is defined here, too. Other libraries may call us before our constructor. */
static void *next_function(const char *name) {
  void *function = dlsym(RTLD_NEXT, name);
  if (function == NULL) {
    abort();
  }
  return function;
}

static int real_sigaction(int number, const struct sigaction *action, struct sigaction *old) {
  static _Atomic(sigaction_function *) function;
  sigaction_function *f = atomic_load(&function);
  if (f == NULL) {
    void *found = next_function("sigaction");
    memcpy(&f, &found, sizeof f);
    atomic_store(&function, f);
  }
  return f(number, action, old);
}

static void set_default(int number) {
  const struct sigaction action = {.sa_handler = SIG_DFL};
  (void)real_sigaction(number, &action, NULL);
}

/* ---- The program's own handler ---- */

static struct {
  atomic_flag taken;
  struct sigaction action;
} program = {.taken = ATOMIC_FLAG_INIT};

/* Puts *action in its place, if not NULL, and gives what was there. */
static struct sigaction exchange_program_action(const struct sigaction *action) {
  sigset_t all, before;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* a handler that comes here must not wait for this thread */
  while (atomic_flag_test_and_set(&program.taken)) {
  }
  const struct sigaction old = program.action;
  if (action != NULL) {
    program.action = *action;
  }
  atomic_flag_clear(&program.taken);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  return old;
}

/* As the kernel would call it. Its mask ends with the frame's, when the signal returns. */
static void call_program(const struct sigaction *action, int number, siginfo_t *info, void *frame) {
  sigset_t mask = action->sa_mask;
  if ((action->sa_flags & SA_NODEFER) == 0) {
    (void)sigaddset(&mask, number);
  }
  if (((unsigned)action->sa_flags & SA_RESETHAND) != 0) {
    const struct sigaction none = {.sa_handler = SIG_DFL};
    (void)exchange_program_action(&none);
  }
  (void)pthread_sigmask(SIG_BLOCK, &mask, NULL);
  if ((action->sa_flags & SA_SIGINFO) != 0) {
    action->sa_sigaction(number, info, frame);
  } else {
    action->sa_handler(number);
  }
}

static void pass_on(int number, siginfo_t *info, void *frame) {
  const struct sigaction action = exchange_program_action(NULL);
  const bool is_fault = info->si_code > 0;
  if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) {
    call_program(&action, number, info, frame);
  } else if (is_fault) {
    set_default(number); /* the instruction runs again, and ends the program */
  } else if (action.sa_handler == SIG_DFL) {
    set_default(number);
    (void)raise(number);
  }
}

/* ---- The trap ---- */

/* A SIGSEGV as of a #GP at the frame's instruction: it waits until the frame is left. */
static void protection_fault(ucontext_t *frame) {
  siginfo_t info = {.si_signo = SIGSEGV, .si_code = SI_KERNEL};
  struct sigaction action;
  sigset_t mask;
  (void)sigemptyset(&mask);
  (void)sigaddset(&mask, SIGSEGV);
  (void)pthread_sigmask(SIG_BLOCK, &mask, NULL);
  (void)real_sigaction(SIGSEGV, NULL, &action);
  if (action.sa_handler == SIG_IGN || sigismember(&frame->uc_sigmask, SIGSEGV) != 0) {
    set_default(SIGSEGV); /* a fault can be neither ignored nor blocked */
    (void)sigdelset(&frame->uc_sigmask, SIGSEGV);
  }
  (void)syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGSEGV, &info);
}

/* QEMU 7.2 enters handlers with a stack that is 8 bytes off. */
__attribute__((force_align_arg_pointer)) static void illegal_instruction(int number, siginfo_t *info, void *context) {
  const int error = errno;
  ucontext_t *frame = context;
  const uint8_t *code = (const uint8_t *)(uintptr_t)frame->uc_mcontext.gregs[REG_RIP];
  trap_name name = TRAP_NAMES;
  trap_outcome outcome = TRAP_UNDEFINED;
  if (info->si_code > 0) { /* from the CPU, not from kill() */
    outcome = trap_step(frame, code, &tiles, atomic_load_explicit(&permitted, memory_order_relaxed), &name);
  }
  if (outcome == TRAP_DONE) {
    (void)atomic_fetch_add_explicit(&counts[name], 1, memory_order_relaxed);
  } else if (outcome == TRAP_PROTECTION) {
    protection_fault(frame);
  } else {
    errno = error;
    pass_on(number, info, context);
    return;
  }
  errno = error;
}

/* ---- Start and end ---- */

static void forget_counts(void) {
  for (size_t i = 0; i < TRAP_NAMES; i++) {
    atomic_store(&counts[i], 0);
  }
}

__attribute__((constructor)) static void start(void) {
  const struct sigaction action = {.sa_sigaction = illegal_instruction,
                                   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  struct sigaction inherited;
  trap_frame_prepare();
  (void)pthread_atfork(NULL, NULL, forget_counts); /* the parent reports them */
  if (real_sigaction(SIGILL, &action, &inherited) != 0) {
    abort();
  }
  if (inherited.sa_handler == SIG_IGN) { /* all that a program can inherit */
    (void)exchange_program_action(&inherited);
  }
}

__attribute__((destructor)) static void finish(void) {
  const char *path = getenv("DYNQ_TRAP_REPORT");
  FILE *file = path != NULL && path[0] != '\0' ? fopen(path, "ae") : NULL;
  if (file == NULL) {
    return;
  }
  for (size_t i = 0; i < TRAP_NAMES; i++) {
    const unsigned long long count = atomic_load(&counts[i]);
    if (count != 0) {
      (void)fprintf(file, "%ld %s %llu\n", (long)getpid(), trap_text((trap_name)i), count);
    }
  }
  (void)fclose(file);
}

/* ---- What stands in front of libc ---- */

EXPORTED int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
  if (number != SIGILL) {
    return real_sigaction(number, action, old);
  }
  const struct sigaction before = exchange_program_action(action);
  if (old != NULL) {
    *old = before;
  }
  return 0;
}

EXPORTED signal_handler signal(int number, signal_handler handler) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
  return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

/* The features that the process may use, as bits of XCR0: those that need no permission where the kernel knows of none,
 * and the tiles. */
static long get_permission(long answer, uint64_t *features) {
  if (answer != 0) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    *features = (uint64_t)high << 32 | low;
  }
  if (atomic_load(&permitted)) {
    *features |= (uint64_t)1 << TILE_CONFIG | (uint64_t)1 << TILE_DATA;
  }
  return 0;
}

EXPORTED long syscall(long number, ...) {
  static _Atomic(void *) next;
  long (*function)(long, ...);
  long a[6];
  va_list arguments;
  va_start(arguments, number);
  for (size_t i = 0; i < sizeof a / sizeof a[0]; i++) {
    a[i] = va_arg(arguments, long); /* as libc does: there may be fewer */
  }
  va_end(arguments);
  void *found = atomic_load(&next);
  if (found == NULL) {
    found = next_function("syscall");
    atomic_store(&next, found);
  }
  memcpy(&function, &found, sizeof function);
  const int error = errno;
  long answer = function(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (number == SYS_arch_prctl && a[0] == REQUEST_PERMISSION && a[1] == TILE_DATA) {
    atomic_store(&permitted, true);
    answer = 0;
  } else if (number == SYS_arch_prctl && a[0] == GET_PERMISSION) {
    answer = get_permission(answer, (uint64_t *)(uintptr_t)a[1]);
  }
  if (answer == 0) {
    errno = error;
  }
  return answer;
}
