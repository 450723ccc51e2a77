/*
 * Unique: the different elements of a tensor, or the different parts of it along an axis. A NaN equals another, and comes
 * last; -0 equals 0, and the one that comes first stands for both.
 */
#include "../base/interrupt.h"
#include "checks.h"
#include "heap.h"

#include <string.h>

typedef struct items {
  const dynq_op_tensor *x;
  size_t outer, count, inner; /* item i: for each of `outer`, `inner` elements from (o * count + i) * inner on */
  size_t axis;
  bool flat;
} items;

static dynq_status find_items(const dynq_op_node *node, items *all) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Unique, X);
  *all = (items){.x = x, .outer = 1, .count = x->count, .inner = 1, .flat = true};
  if (node->attributes[DYNQ_ATTR(Unique, axis)].present) {
    DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(Unique, axis), x->rank, &all->axis));
    all->outer = dynq_op_product(x, 0, all->axis);
    all->count = x->dims[all->axis];
    all->inner = dynq_op_product(x, all->axis + 1, x->rank);
    all->flat = false;
  }
  return DYNQ_OK;
}

static int compare_elements(const dynq_op_tensor *x, size_t a, size_t b) {
  if (x->dtype == DYNQ_FLOAT32) {
    const float p = ((const float *)x->data)[a], q = ((const float *)x->data)[b];
    const bool p_is_nan = p != p, q_is_nan = q != q;
    return p_is_nan || q_is_nan ? (int)p_is_nan - (int)q_is_nan : (int)(p > q) - (int)(p < q);
  }
  const int64_t p = dynq_op_integer(x, a), q = dynq_op_integer(x, b);
  return (int)(p > q) - (int)(p < q);
}

static int compare_items(const items *all, size_t a, size_t b) {
  for (size_t o = 0; o < all->outer; o++) {
    const size_t at_a = (o * all->count + a) * all->inner, at_b = (o * all->count + b) * all->inner;
    for (size_t i = 0; i < all->inner; i++) {
      const int order = compare_elements(all->x, at_a + i, at_b + i);
      if (order != 0) {
        return order;
      }
    }
  }
  return 0;
}

/* In the order of their values; equal ones in their own. */
static bool comes_after(const void *all, int64_t a, int64_t b) {
  const int order = compare_items(all, (size_t)a, (size_t)b);
  return order > 0 || (order == 0 && a > b);
}

static void sort_items(const items *all, int64_t *order) {
  for (size_t i = 0; i < all->count; i++) {
    order[i] = (int64_t)i;
  }
  for (size_t i = all->count / 2; i-- > 0;) {
    dynq_heap_sift(order, 1, all->count, i, order[i], comes_after, all);
  }
  for (size_t i = all->count; i-- > 1 && !dynq_interrupted();) {
    const int64_t last = order[i];
    order[i] = order[0];
    dynq_heap_sift(order, 1, i, 0, last, comes_after, all);
  }
}

static dynq_status infer(dynq_op_node *node) {
  items all;
  size_t dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Unique, X), DYNQ_SET_ANY));
  DYNQ_TRY(find_items(node, &all));
  const int64_t sorted = dynq_op_int(node, DYNQ_ATTR(Unique, sorted));
  if (sorted != 0 && sorted != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "sorted is %lld; expected 0 or 1", (long long)sorted);
  }
  memcpy(dims, all.x->dims, sizeof dims);
  dims[all.axis] = all.count; /* at the most */
  dynq_op_set_output(node, DYNQ_OUT(Unique, Y), all.x->dtype, all.flat ? 1 : all.x->rank, dims);
  for (size_t i = DYNQ_OUT(Unique, indices); i <= DYNQ_OUT(Unique, counts); i++) {
    dynq_op_set_output(node, i, DYNQ_INT64, 1, &all.count);
  }
  node->scratch_bytes = dynq_size_mul(all.count, 3 * sizeof(int64_t));
  return DYNQ_OK;
}

/* Numbers the groups of equal items: group[i] is that of item i. By value, or by the first item of each; `first[g]` is
 * that item. Returns how many there are. */
static size_t number_groups(const items *all, bool sorted, const int64_t *order, int64_t *group, int64_t *first) {
  size_t count = 0;
  for (size_t i = 0; i < all->count; i++) {
    if (i == 0 || compare_items(all, (size_t)order[i - 1], (size_t)order[i]) != 0) {
      first[count++] = order[i];
    }
    group[order[i]] = sorted ? (int64_t)count - 1 : first[count - 1];
  }
  if (sorted) {
    return count;
  }
  count = 0;
  for (size_t i = 0; i < all->count; i++) { /* the first of each comes before its equals */
    if (group[i] == (int64_t)i) {
      first[count] = (int64_t)i;
      group[i] = (int64_t)count++;
    } else {
      group[i] = group[group[i]];
    }
  }
  return count;
}

static void copy_item(const items *all, const dynq_op_tensor *y, size_t from, size_t to, size_t count) {
  const size_t bytes = all->inner * dynq_dtype_size(y->dtype);
  for (size_t o = 0; o < all->outer && bytes != 0; o++) {
    memcpy((char *)y->data + (o * count + to) * bytes, (const char *)all->x->data + (o * all->count + from) * bytes,
           bytes);
  }
}

static dynq_status run(const dynq_op_node *node) {
  dynq_op_tensor *const y = DYNQ_OUTPUT(node, Unique, Y), *const indices = DYNQ_OUTPUT(node, Unique, indices);
  dynq_op_tensor *const inverse = DYNQ_OUTPUT(node, Unique, inverse_indices);
  dynq_op_tensor *const counts = DYNQ_OUTPUT(node, Unique, counts);
  items all;
  DYNQ_TRY(find_items(node, &all));
  int64_t *order = node->scratch, *group = order + all.count, *first = group + all.count;
  sort_items(&all, order);
  if (dynq_interrupted()) { /* order is none yet */
    return DYNQ_OK;
  }
  const size_t count = number_groups(&all, dynq_op_int(node, DYNQ_ATTR(Unique, sorted)) != 0, order, group, first);
  if (y != NULL) {
    for (size_t g = 0; g < count; g++) {
      copy_item(&all, y, (size_t)first[g], g, count);
    }
    y->dims[all.axis] = count;
  }
  if (indices != NULL) {
    memcpy(indices->data, first, count * sizeof *first);
    indices->dims[0] = count;
  }
  if (inverse != NULL && all.count != 0) {
    memcpy(inverse->data, group, all.count * sizeof *group);
  }
  if (counts != NULL) {
    int64_t *to = counts->data;
    memset(to, 0, count * sizeof *to);
    for (size_t i = 0; i < all.count; i++) {
      to[group[i]]++;
    }
    counts->dims[0] = count;
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Unique = {infer, run};
