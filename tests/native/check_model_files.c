/*
 * Models from files: what is none is refused, and two processes share the pages of one.
 */
#include "check_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Files ---- */

static void check_files(void) {
  char path[] = "/tmp/dynq_check_model_XXXXXX", empty[] = "/tmp/dynq_check_empty_XXXXXX";
  size_t size;
  int64_t ids[2] = {4, 5};
  dynq_model *model = NULL;
  dynq_session *session = NULL;
  check_begin("", "files");
  check_case("a model from its file");
  void *image = sample_image(&size);
  const int file = mkstemp(path), nothing = mkstemp(empty);
  CHECK(file >= 0 && nothing >= 0 && write(file, image, size) == (ssize_t)size);
  CHECK_STATUS(DYNQ_OK, dynq_model_open(path, &model));
  const void *bytes = NULL;
  size_t byte_count = 0;
  CHECK_STATUS(DYNQ_OK, dynq_model_bytes(model, &bytes, &byte_count));
  CHECK(byte_count == size && memcmp(bytes, image, size) == 0);
  CHECK_REFUSED("size", dynq_model_bytes(model, &bytes, NULL));
  CHECK_STATUS(DYNQ_OK, dynq_session_new(model, NULL, &session));
  run_sample(session, 1, 2, ids);
  dynq_session_free(session);
  dynq_model_close(model);
  check_case("files that are none");
  CHECK_STATUS(DYNQ_ERROR_FORMAT, dynq_model_open(empty, &model));
  CHECK(strstr(dynq_last_error(), empty) != NULL);
  CHECK_STATUS(DYNQ_ERROR_SYSTEM, dynq_model_open("/tmp", &model));
  CHECK_STATUS(DYNQ_ERROR_SYSTEM, dynq_model_open("/tmp/dynq_check_model_missing/none", &model));
  CHECK(strstr(dynq_last_error(), "No such file") != NULL);
  CHECK_REFUSED("path", dynq_model_open(NULL, &model));
  CHECK_REFUSED("model", dynq_model_open(path, NULL));
  CHECK_REFUSED("bytes", dynq_model_open_memory(NULL, 5, &model));
  CHECK_REFUSED("aligned", dynq_model_open_memory((const char *)image + 1, size - 1, &model));
  (void)close(file);
  (void)close(nothing);
  (void)unlink(path);
  (void)unlink(empty);
  free(image);
  check_end();
}

/* ---- Two processes share the pages of a file: kilobytes of /proc/self/smaps ---- */

typedef struct mapped {
  size_t resident, shared_clean, private_dirty;
} mapped;

static mapped mapping_of(const char *path) {
  char line[512];
  size_t kilobytes;
  bool ours = false;
  mapped found = {0, 0, 0};
  FILE *smaps = fopen("/proc/self/smaps", "r");
  while (smaps != NULL && fgets(line, sizeof line, smaps) != NULL) {
    if (strchr(line, '/') != NULL || strchr(line, ':') == NULL || strstr(line, "kB") == NULL) { /* the head of one */
      ours = strstr(line, path) != NULL;
    } else if (ours) {
      found.resident += sscanf(line, "Rss: %zu kB", &kilobytes) == 1 ? kilobytes : 0;
      found.shared_clean += sscanf(line, "Shared_Clean: %zu kB", &kilobytes) == 1 ? kilobytes : 0;
      found.private_dirty += sscanf(line, "Private_Dirty: %zu kB", &kilobytes) == 1 ? kilobytes : 0;
    }
  }
  if (smaps != NULL) {
    (void)fclose(smaps);
  }
  return found;
}

/* One layer with half a megabyte of weights. */
static void *large_image(size_t *size) {
  enum { SIDE = 700 };
  plan_writer w = {0};
  dynq_weight *weight = random_weight(SIDE, SIDE);
  const uint32_t inputs[] = {plan_input(&w, "x", DYNQ_FLOAT32, 2, (const int64_t[]){1, SIDE}),
                             plan_weight(&w, "weight", weight)};
  const uint32_t y = plan_computed(&w, "y");
  plan_node(&w, "layer", "dynq.Linear", 2, inputs, 1, &y);
  plan_output(&w, "y", y);
  dynq_weight_free(weight);
  return plan_finish(&w, size);
}

static dynq_model *run_large(const char *path) {
  static float x[700];
  dynq_model *model = NULL;
  dynq_session *session = NULL;
  dynq_tensor out;
  const dynq_tensor in = tensor_of(DYNQ_FLOAT32, 2, (const size_t[]){1, 700}, x);
  CHECK_STATUS(DYNQ_OK, dynq_model_open(path, &model));
  CHECK_STATUS(DYNQ_OK, dynq_session_new(model, NULL, &session));
  CHECK_STATUS(DYNQ_OK, dynq_model_run(session, &in, &out));
  dynq_session_free(session);
  return model;
}

static void check_shared_pages(void) {
  char path[] = "/tmp/dynq_check_pages_XXXXXX";
  int ready[2], done[2];
  char byte = 0;
  size_t size;
  check_begin("", "two processes share a model's pages");
  check_case("700 x 700");
  void *image = large_image(&size);
  const int file = mkstemp(path);
  CHECK(file >= 0 && write(file, image, size) == (ssize_t)size && fsync(file) == 0);
  CHECK(pipe(ready) == 0 && pipe(done) == 0);
  const pid_t child = fork();
  if (child == 0) {                /* has the pages mapped and read until told to go */
    (void)dynq_set_num_threads(1); /* the thread sanitizer starts none in a forked child */
    (void)run_large(path);
    (void)!write(ready[1], &byte, 1);
    (void)!read(done[0], &byte, 1);
    _exit(0);
  }
  (void)close(ready[1]); /* where the child dies, reading ends */
  CHECK(child > 0 && read(ready[0], &byte, 1) == 1);
  dynq_model *model = run_large(path);
  const mapped m = mapping_of(path);
  CHECK(m.resident >= 700 * 700 / 1024 && m.private_dirty == 0);
  CHECK(m.shared_clean == m.resident);
  (void)!write(done[1], &byte, 1);
  CHECK(waitpid(child, NULL, 0) == child);
  dynq_model_close(model);
  (void)close(ready[0]);
  (void)close(done[0]);
  (void)close(done[1]);
  (void)close(file);
  (void)unlink(path);
  free(image);
  check_end();
}

void check_model_files(void) {
  check_files();
  check_shared_pages();
}
