/*
 * From a file or memory to a model: find the data behind the header of the safetensors container.
 */
#include "../base/alloc.h"
#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALIGN = 64, LENGTH_BYTES = 8 };

static dynq_status find_data(dynq_model *model, const unsigned char *bytes, size_t size) {
  if (size < LENGTH_BYTES) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "%zu bytes; expected a .dynq file: truncated, or another format", size);
  }
  const uint64_t length = dynq_little_endian(bytes, LENGTH_BYTES);
  if ((length + LENGTH_BYTES) % ALIGN != 0 || size == LENGTH_BYTES || bytes[LENGTH_BYTES] != '{') {
    return dynq_fail(DYNQ_ERROR_FORMAT,
                     "not a .dynq file: expected a JSON header and data that begin at a multiple of %d", ALIGN);
  }
  if (length > size - LENGTH_BYTES) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "truncated: the header takes %llu bytes; the file has %zu",
                     (unsigned long long)length, size);
  }
  model->data = bytes + LENGTH_BYTES + length;
  model->data_bytes = size - LENGTH_BYTES - (size_t)length;
  return DYNQ_OK;
}

static void unmap(const void *bytes, size_t size) { (void)munmap((void *)(uintptr_t)bytes, size); }

/* Takes over a mapping. */
static dynq_status open_image(const void *bytes, size_t size, bool is_mapped, dynq_model **model) {
  dynq_model *m = dynq_alloc(sizeof *m);
  if (m == NULL) {
    if (is_mapped) {
      unmap(bytes, size);
    }
    return dynq_fail_memory(sizeof *m);
  }
  *m = (dynq_model){.image = bytes, .image_bytes = size, .is_mapped = is_mapped};
  dynq_status status = find_data(m, bytes, size);
  status = status == DYNQ_OK ? dynq_plan_read(m) : status;
  if (status != DYNQ_OK) {
    dynq_model_close(m);
    return status;
  }
  *model = m;
  return DYNQ_OK;
}

static dynq_status fail_system(const char *path, const char *what) {
  return dynq_fail(DYNQ_ERROR_SYSTEM, "%.180s: cannot %s: %.40s", path, what, strerror(errno));
}

static dynq_status map_file(const char *path, int file, void **mapping, size_t *size) {
  struct stat info;
  if (fstat(file, &info) != 0) {
    return fail_system(path, "read its size");
  }
  if (!S_ISREG(info.st_mode)) {
    return dynq_fail(DYNQ_ERROR_SYSTEM, "%.180s: not a regular file", path);
  }
  if (info.st_size == 0) { /* mmap refuses it */
    return dynq_fail(DYNQ_ERROR_FORMAT, "the file is empty; expected a .dynq file");
  }
  if ((uintmax_t)info.st_size > PTRDIFF_MAX) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "the file is larger than the address space");
  }
  *size = (size_t)info.st_size;
  *mapping = mmap(NULL, *size, PROT_READ, MAP_SHARED, file, 0);
  return *mapping != MAP_FAILED ? DYNQ_OK : fail_system(path, "map");
}

/* The path before the message. */
static dynq_status name_file(dynq_status status, const char *path) {
  return status == DYNQ_ERROR_FORMAT ? dynq_fail(status, "%.100s: %s", path, dynq_last_error()) : status;
}

dynq_status dynq_model_open(const char *path, dynq_model **model) {
  void *mapping = NULL;
  size_t size = 0;
  if (path == NULL || model == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", path == NULL ? "path" : "model");
  }
  /* Not blocked by a named pipe, which map_file refuses. */
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) {
    return fail_system(path, "open");
  }
  dynq_status status = map_file(path, file, &mapping, &size);
  (void)close(file); /* the mapping stays */
  status = status == DYNQ_OK ? open_image(mapping, size, true, model) : status;
  return name_file(status, path);
}

dynq_status dynq_model_open_memory(const void *bytes, size_t size, dynq_model **model) {
  if (bytes == NULL || model == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", bytes == NULL ? "bytes" : "model");
  }
  if ((uintptr_t)bytes % ALIGN != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "bytes is not aligned to %d bytes", ALIGN);
  }
  return open_image(bytes, size, false, model);
}

void dynq_model_close(dynq_model *model) {
  if (model == NULL) {
    return;
  }
  for (size_t i = 0; i < model->tensor_count; i++) {
    dynq_weight_free(model->tensors[i].weight);
  }
  dynq_pool_free(&model->pool);
  if (model->is_mapped) {
    unmap(model->image, model->image_bytes);
  }
  dynq_free(model);
}
