/*
 * Opens a .dynq file and runs it, without Python: run_model model.dynq [SIZE...] [--NAME FILE...]
 *
 * SIZE is for the dimensions that the model leaves open, in the order in which their names appear (1 where none is
 * given). FILE holds the raw values of input NAME, row-major; an input without a file is all zeros.
 */
#include <dynq/dynq.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 32 }; /* inputs, outputs, names of sizes */

static const char *const dtype_names[] = {"float32", "int64", "int32", "bool", "uint8", "int8"};
static const size_t dtype_sizes[] = {4, 8, 4, 1, 1, 1};

static int fail(void) {
  fprintf(stderr, "%s\n", dynq_last_error());
  return 1;
}

/* The size of a dimension that is open: equal names are equal sizes. */
static size_t open_size(const char *name, const char **names, size_t *name_count, size_t size_count,
                        const size_t *sizes) {
  size_t i = 0;
  while (i < *name_count && (name == NULL || strcmp(names[i], name) != 0)) {
    i++;
  }
  if (i == *name_count && *name_count < MOST) {
    names[(*name_count)++] = name != NULL ? name : "";
  }
  return i < size_count ? sizes[i] : 1;
}

/* The values of a file, or zeros. */
static void *values(const char *path, size_t bytes) {
  void *data = calloc(bytes != 0 ? bytes : 1, 1);
  FILE *file = path != NULL && data != NULL ? fopen(path, "rb") : NULL;
  if (data == NULL || (path != NULL && (file == NULL || fread(data, 1, bytes, file) != bytes))) {
    fprintf(stderr, "%s: expected a file of %zu bytes\n", path != NULL ? path : "input", bytes);
    exit(1);
  }
  if (file != NULL) {
    fclose(file);
  }
  return data;
}

static size_t print(const char *name, const dynq_tensor *t) {
  size_t count = 1;
  printf("%s: %s (", name, dtype_names[t->dtype]);
  for (size_t d = 0; d < t->rank; d++) {
    printf("%s%zu", d != 0 ? ", " : "", t->dims[d]);
    count *= t->dims[d];
  }
  printf(")");
  return count;
}

int main(int argc, char **argv) {
  const char *names[MOST], *name, *files[MOST] = {NULL};
  size_t sizes[MOST], size_count = 0, name_count = 0;
  dynq_tensor inputs[MOST], outputs[MOST];
  dynq_model *model;
  dynq_session *session;
  if (argc < 2) {
    fprintf(stderr, "usage: run_model model.dynq [SIZE...] [--NAME FILE...]\n");
    return 2;
  }
  if (dynq_model_open(argv[1], &model) != DYNQ_OK || dynq_session_new(model, NULL, &session) != DYNQ_OK) {
    return fail();
  }
  const size_t input_count = dynq_model_input_count(model), output_count = dynq_model_output_count(model);
  if (input_count > MOST || output_count > MOST) {
    fprintf(stderr, "this example takes up to %d inputs and outputs\n", MOST);
    return 1;
  }
  for (int i = 2; i < argc; i++) {
    if (strncmp(argv[i], "--", 2) != 0 && size_count < MOST) {
      sizes[size_count++] = (size_t)strtoull(argv[i], NULL, 10);
      continue;
    }
    size_t input = 0;
    dynq_model_value value;
    while (input < input_count && dynq_model_input(model, input, &value) == DYNQ_OK &&
           strcmp(value.name, argv[i] + 2) != 0) {
      input++;
    }
    if (input == input_count || i + 1 == argc) {
      fprintf(stderr, "%s: the model has no such input, or no file follows\n", argv[i]);
      return 2;
    }
    files[input] = argv[++i];
  }

  for (size_t i = 0; i < input_count; i++) {
    dynq_model_value value;
    if (dynq_model_input(model, i, &value) != DYNQ_OK) {
      return fail();
    }
    inputs[i] = (dynq_tensor){.dtype = value.dtype, .rank = value.rank};
    for (size_t d = 0; d < value.rank; d++) {
      inputs[i].dims[d] = value.dims[d] >= 0 ? (size_t)value.dims[d]
                                             : open_size(value.dim_names[d], names, &name_count, size_count, sizes);
    }
    const size_t count = print(value.name, &inputs[i]);
    printf("%s\n", files[i] != NULL ? "" : " of zeros");
    inputs[i].data = values(files[i], count * dtype_sizes[value.dtype]);
  }

  /* The first run of a shape plans; further ones of it allocate nothing. NaN in, NaN out: that is no failure. */
  const dynq_status status = dynq_model_run(session, inputs, outputs);
  if (status != DYNQ_OK && status != DYNQ_NONFINITE) {
    return fail();
  }
  for (size_t i = 0; i < output_count; i++) {
    if (dynq_model_output_name(model, i, &name) != DYNQ_OK) {
      return fail();
    }
    const size_t count = print(name, &outputs[i]);
    for (size_t j = 0; j < count && j < 8 && outputs[i].dtype == DYNQ_FLOAT32; j++) {
      printf("%s%g", j == 0 ? ": " : " ", (double)((const float *)outputs[i].data)[j]);
    }
    printf("%s\n", count > 8 ? " ..." : "");
  }
  for (size_t i = 0; i < input_count; i++) {
    free((void *)(uintptr_t)inputs[i].data);
  }
  dynq_session_free(session);
  dynq_model_close(model);
  return 0;
}
