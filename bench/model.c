/*
 * dynq-bench model: what one call of dynq_model_run costs, and how much of it is outside of the model's nodes. For models
 * that are called often and do little each time, such as a recurrent layer that is given one frame a call.
 */
#include "commands.h"
#include "options.h"
#include "report.h"
#include "timing.h"

#include "dynq/dynq.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_VALUES = 16, ROUNDS = 25, FEW_ROUNDS = 3, CALLS_BETWEEN = 16 /* two looks at the clock */ };

typedef struct options {
  const char *file;
  size_t threads, rounds;
  double seconds; /* of a round */
  bool json;
} options;

static void check(dynq_status status) {
  if (status != DYNQ_OK) {
    bench_fail("%s", dynq_last_error());
  }
}

static void read_options(options *o, int argc, char **argv) {
  bench_options in = {.command = "model", .count = argc, .arguments = argv};
  *o = (options){.threads = 1};
  while (bench_next_option(&in)) {
    if (bench_option_is(&in, "--file")) {
      o->file = bench_option_value(&in);
    } else if (bench_option_is(&in, "--threads")) {
      o->threads = bench_parse_count(in.name, bench_option_value(&in), 1, 512);
    } else {
      bench_option_unknown(&in);
    }
  }
  if (o->file == NULL) {
    bench_fail("model: --file is missing (see dynq-bench --help)");
  }
  o->json = in.json;
  o->rounds = in.rounds != 0 ? in.rounds : in.quick ? FEW_ROUNDS : ROUNDS;
  o->seconds = in.quick ? 1e-4 : 2e-3;
}

/* Zeros for an input of fixed shape. */
static dynq_tensor make_input(const dynq_model *model, size_t index) {
  dynq_model_value value;
  check(dynq_model_input(model, index, &value));
  dynq_tensor t = {.dtype = value.dtype, .rank = value.rank};
  size_t bytes = 8; /* the largest element */
  for (size_t d = 0; d < value.rank; d++) {
    if (value.dims[d] < 0 || (value.dims[d] != 0 && bytes > ((size_t)1 << 32) / (size_t)value.dims[d])) {
      bench_fail("input '%s': expected a fixed shape, of less than 4 GB", value.name);
    }
    t.dims[d] = (size_t)value.dims[d];
    bytes *= t.dims[d];
  }
  t.data = calloc(bytes != 0 ? bytes : 1, 1);
  if (t.data == NULL) {
    bench_fail("input '%s': out of memory", value.name);
  }
  return t;
}

typedef struct measured {
  double call, nodes; /* seconds, medians */
} measured;

/* Seconds of one call; *nodes: of its nodes, where they are measured. */
static double time_calls(dynq_session *session, const dynq_tensor *inputs, size_t node_count, double seconds,
                         double *nodes) {
  dynq_tensor outputs[MOST_VALUES];
  const double begin = bench_now();
  double end;
  size_t calls = 0;
  *nodes = 0.0;
  do {
    for (size_t call = 0; call < CALLS_BETWEEN; call++) {
      check(dynq_model_run(session, inputs, outputs));
      for (size_t i = 0; i < node_count; i++) {
        uint64_t nanoseconds;
        check(dynq_session_node_time(session, i, &nanoseconds));
        *nodes += 1e-9 * (double)nanoseconds;
      }
    }
    calls += CALLS_BETWEEN;
    end = bench_now();
  } while (end - begin < seconds);
  *nodes /= (double)calls;
  return (end - begin) / (double)calls;
}

/* Calls as they are and calls whose nodes are measured take turns. */
static measured measure(const options *o, const dynq_model *model, dynq_session *session, const dynq_tensor *inputs) {
  double calls[BENCH_MAX_ROUNDS], nodes[BENCH_MAX_ROUNDS], unused;
  (void)time_calls(session, inputs, 0, o->seconds, &unused); /* it plans */
  for (size_t round = 0; round < o->rounds; round++) {
    calls[round] = time_calls(session, inputs, 0, o->seconds, &unused);
    check(dynq_session_time_nodes(session, 1));
    (void)time_calls(session, inputs, dynq_model_node_count(model), o->seconds, &nodes[round]);
    check(dynq_session_time_nodes(session, 0));
  }
  return (measured){.call = bench_median(calls, o->rounds), .nodes = bench_median(nodes, o->rounds)};
}

int bench_model(int argc, char **argv) {
  options o;
  dynq_model *model;
  dynq_session *session;
  dynq_tensor inputs[MOST_VALUES];
  read_options(&o, argc, argv);
  check(dynq_set_num_threads(o.threads));
  check(dynq_model_open(o.file, &model));
  const size_t count = dynq_model_input_count(model);
  if (count > MOST_VALUES || dynq_model_output_count(model) > MOST_VALUES) {
    bench_fail("%s: more than %d inputs or outputs", o.file, MOST_VALUES);
  }
  for (size_t i = 0; i < count; i++) {
    inputs[i] = make_input(model, i);
  }
  check(dynq_session_new(model, NULL, &session));
  const measured m = measure(&o, model, session, inputs);
  if (o.json) {
    json_begin("model");
    json_text("file", o.file);
    json_count("threads", o.threads);
    json_number("us", 1e6 * m.call);
    json_number("nodes_us", 1e6 * m.nodes);
    json_end();
  } else {
    char whole[32], nodes[32];
    (void)printf("%s: %s us a call, %s us of it in nodes\n", o.file, bench_number_text(1e6 * m.call, 3, whole),
                 bench_number_text(1e6 * m.nodes, 3, nodes));
    bench_flush();
  }
  dynq_session_free(session);
  for (size_t i = 0; i < count; i++) {
    free((void *)(uintptr_t)inputs[i].data);
  }
  dynq_model_close(model);
  return 0;
}
