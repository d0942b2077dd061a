/* pool_trim.c: what leaves a pool that nobody called for: trims by four policies, and clear().
 *
 * A trim moves what is idle in the shared queues to the depot, looking at each on the way: so what
 * somebody still holds is found, and the oldest of all lie at the depot's tail, where the policy
 * drops them. The private parts stay, but at rest. */
#include "pool.h"

void
pw_batch_release(pw_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        Py_DECREF(batch->items[i]);
    }
    batch->count = 0;
}

static void
name_pinned(pw_pool *self, pw_batch *batch)
{
    if (self->pinned_types == NULL) {
        self->pinned_types = PyDict_New();
    }
    for (size_t i = 0; i < batch->count && self->pinned_types != NULL; i++) {
        const char *class_name = Py_TYPE(batch->items[i])->tp_name;
        PyObject *seen = PyDict_GetItemString(self->pinned_types, class_name);
        PyObject *count = PyLong_FromLong(seen == NULL ? 1 : PyLong_AsLong(seen) + 1);
        if (count != NULL) {
            PyDict_SetItemString(self->pinned_types, class_name, count);
        }
        Py_XDECREF(count);
    }
    PyErr_Clear(); /* no memory for a name: the counts are still right */
}

/* Has the checker find out who holds them. */
static void
check_pinned(pw_pool *self, pw_batch *batch)
{
    PyObject *list = PyList_New((Py_ssize_t)batch->count), *done = NULL;
    if (list != NULL) {
        for (size_t i = 0; i < batch->count; i++) {
            PyList_SET_ITEM(list, (Py_ssize_t)i, Py_NewRef(batch->items[i]));
        }
        done = PyObject_CallMethod(self->checker, "pinned", "O", list);
        Py_DECREF(list);
    }
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(done);
}

void
pw_batch_release_pinned(pw_pool *self, pw_batch *batch)
{
    if (batch->count == 0) {
        return;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    name_pinned(self, batch);
    self->pinned_dropped += batch->count;
    self->circulating -= (int64_t)batch->count;
    Py_END_CRITICAL_SECTION();
    if (self->checker != NULL) {
        check_pinned(self, batch);
    }
    pw_batch_release(batch);
}

pw_held
pw_pool_unhold(pw_pool *self, size_t at)
{
    pw_held held = self->held[at];
    self->held[at] = self->held[--self->held_count];
    return held;
}

void
pw_pool_set_aside(pw_pool *self, PyObject *item, unsigned pins, pw_batch *leaving)
{
    bool kept;
    if (pw_is_sole(item)) {
        kept = pw_queue_push_owner(&self->depot, item);
    } else {
        kept = self->held_count < PW_HELD_MAX;
        if (kept) {
            self->held[self->held_count++] = (pw_held){item, pins};
        }
    }
    if (!kept) {
        leaving->items[leaving->count++] = item;
    }
}

/* The next idle or held item that the caller may take, whoever holds it. In the section. */
static PyObject *
take_any(pw_pool *self, bool nobody_else)
{
    PyObject *item = pw_queue_steal(&self->victim);
    if (item == NULL) {
        item = pw_queue_steal(&self->depot);
    }
    for (pw_local *local = pw_first_local(self); item == NULL && local != NULL;
         local = local->next) {
        while (item == NULL && pw_queue_length(&local->shared) > 0) {
            item = pw_queue_steal(&local->shared);
        }
        if (item == NULL && (nobody_else || pw_may_touch(local))) {
            item = pw_local_take_private(local);
        }
    }
    if (item == NULL && self->held_count > 0) {
        item = pw_pool_unhold(self, self->held_count - 1).item;
    }
    return item;
}

/* In batches, and bounded by what is there now: finalizers that put cannot keep us for ever. */
size_t
pw_pool_release_all(pw_pool *self, bool nobody_else)
{
    size_t released = 0, limit = pw_pool_idle(self) + self->held_count;
    pw_batch batch = {0};
    bool more = true;
    while (more) {
        Py_BEGIN_CRITICAL_SECTION(self);
        PyObject *item;
        while (batch.count < PW_BATCH && released + batch.count < limit &&
               (item = take_any(self, nobody_else)) != NULL) {
            batch.items[batch.count++] = item;
        }
        self->circulating -= (int64_t)batch.count;
        Py_END_CRITICAL_SECTION();
        released += batch.count;
        more = batch.count == PW_BATCH;
        pw_batch_release(&batch);
    }
    return released;
}

PyObject *
pw_pool_clear(pw_pool *self, PyObject *Py_UNUSED(ignored))
{
    size_t released = pw_pool_release_all(self, false);
    Py_BEGIN_CRITICAL_SECTION(self);
    self->cleared += released;
    Py_END_CRITICAL_SECTION();
    return PyLong_FromSize_t(released);
}

/* ---- trim ---- */

/* How many were idle all through the period that ends here. The private parts count only at rest,
 * when nobody has called get. */
static size_t
end_period(pw_pool *self, bool resting)
{
    size_t low = pw_queue_end_period(&self->depot);
    for (pw_local *local = pw_first_local(self); local != NULL; local = local->next) {
        low += pw_queue_end_period(&local->shared);
        if (resting && pw_may_touch(local)) {
            low += pw_local_private(local);
        }
    }
    return low;
}

/* How many of them the policy drops: `demand` the half, since nobody would have missed them;
 * `aged` those that were idle for max_age trims; `victim` and `clear` do not ask. */
static size_t
choose_surplus(pw_pool *self, size_t low, uint64_t trims)
{
    if (self->policy != PW_AGED) {
        return self->policy == PW_DEMAND ? (low + 1) / 2 : 0;
    }
    self->lows[trims % self->max_age] = low;
    size_t surplus = low;
    for (size_t i = 0; i < self->max_age; i++) {
        surplus = self->lows[i] < surplus ? self->lows[i] : surplus;
    }
    for (size_t i = 0; i < self->max_age; i++) {
        self->lows[i] -= surplus;
    }
    return surplus;
}

/* What is free again goes to the depot; what is still held after PW_PINS_MAX trims leaves. */
static void
look_at_held(pw_pool *self, pw_batch *leaving)
{
    for (size_t i = self->held_count; i-- > 0;) {
        if (pw_is_sole(self->held[i].item)) {
            if (!pw_queue_push_owner(&self->depot, self->held[i].item)) {
                break; /* no memory: next time */
            }
            pw_pool_unhold(self, i);
        } else if (++self->held[i].pins >= PW_PINS_MAX) {
            leaving->items[leaving->count++] = pw_pool_unhold(self, i).item;
        }
    }
}

/* What is private and held is put aside: the newest only at rest, since it may be held by the
 * variable of a running loop. */
static void
look_at_private(pw_pool *self, bool resting, pw_batch *leaving)
{
    for (pw_local *local = pw_first_local(self); local != NULL; local = local->next) {
        if (!pw_may_touch(local)) {
            continue;
        }
        void **slots[] = {&local->second, resting ? &local->newest : &local->second};
        for (int which = 0; which < 2 && leaving->count < PW_BATCH; which++) {
            void *item = *slots[which];
            if (item != NULL && !pw_is_sole(item)) {
                *slots[which] = NULL;
                pw_pool_set_aside(self, item, 1, leaving);
            }
        }
    }
}

/* Moves what was shared to the depot, batch by batch; whether there may be more. */
static bool
gather_shared(pw_pool *self, size_t *left, pw_batch *leaving)
{
    for (pw_local *local = pw_first_local(self); local != NULL; local = local->next) {
        size_t length = pw_queue_length(&local->shared);
        for (; length > 0 && *left > 0 && leaving->count < PW_BATCH; length--, (*left)--) {
            PyObject *item = pw_queue_steal(&local->shared);
            if (item != NULL) {
                pw_pool_set_aside(self, item, 1, leaving);
            }
        }
        if (leaving->count == PW_BATCH) {
            return true;
        }
        pw_store_relaxed(&local->shared.low, 0);
    }
    return false;
}

/* The next that the policy drops; in the section. */
static PyObject *
take_surplus(pw_pool *self, bool resting)
{
    PyObject *item = pw_queue_steal(&self->depot);
    for (pw_local *local = pw_first_local(self); item == NULL && resting && local != NULL;
         local = local->next) {
        if (pw_may_touch(local)) {
            item = pw_local_take_private(local);
        }
    }
    return item;
}

static size_t
drop(pw_pool *self, pw_reason reason, size_t surplus, PyObject *(*take)(pw_pool *, bool),
     bool resting)
{
    size_t dropped = 0;
    pw_batch batch = {0};
    bool more = true;
    while (more) {
        Py_BEGIN_CRITICAL_SECTION(self);
        PyObject *item;
        while (batch.count < PW_BATCH && dropped + batch.count < surplus &&
               (item = take(self, resting)) != NULL) {
            batch.items[batch.count++] = item;
        }
        self->circulating -= (int64_t)batch.count;
        self->evictions[reason] += batch.count;
        self->regrettable += batch.count;
        Py_END_CRITICAL_SECTION();
        dropped += batch.count;
        more = batch.count == PW_BATCH;
        pw_batch_release(&batch);
    }
    return dropped;
}

static PyObject *
take_victim(pw_pool *self, bool Py_UNUSED(resting))
{
    return pw_queue_steal(&self->victim);
}

static PyObject *
take_all(pw_pool *self, bool Py_UNUSED(resting))
{
    return take_any(self, false);
}

/* Policy `victim`: all that is idle becomes the victim cache. A newest that is held stays: it may
 * be the variable of a running loop. */
static void
make_victims(pw_pool *self)
{
    PyObject *item;
    while (pw_queue_length(&self->depot) > 0) {
        item = pw_queue_steal(&self->depot);
        if (!pw_queue_push_owner(&self->victim, item)) {
            pw_queue_push_owner(&self->depot, item); /* it had room: it came from there */
            return;
        }
    }
    for (pw_local *local = pw_first_local(self); local != NULL; local = local->next) {
        if (!pw_may_touch(local)) {
            continue;
        }
        while (pw_local_private(local) > 0) {
            void *newest = local->newest;
            if (local->second == NULL && !pw_is_sole(newest)) {
                break;
            }
            item = pw_local_take_private(local);
            if (!pw_queue_push_owner(&self->victim, item)) {
                pw_local_push_private_owner(local, item);
                return;
            }
        }
    }
}

static size_t
trim(pw_pool *self, pw_reason reason)
{
    pw_batch leaving = {0};
    bool resting, more;
    size_t surplus, left;
    uint64_t trims = 0;
    Py_BEGIN_CRITICAL_SECTION(self);
    uint64_t gets = pw_pool_gets(self);
    for (int i = 0; i < PW_REASONS; i++) {
        trims += self->trims[i];
    }
    resting = gets == self->gets_at_trim;
    self->gets_at_trim = gets;
    look_at_held(self, &leaving);
    self->trims[reason]++;
    self->regrettable = 0;
    Py_END_CRITICAL_SECTION();
    pw_batch_release_pinned(self, &leaving);

    Py_BEGIN_CRITICAL_SECTION(self);
    size_t low = end_period(self, resting);
    self->waste += low;
    surplus = choose_surplus(self, low, trims);
    look_at_private(self, resting, &leaving);
    left = pw_pool_idle(self);
    Py_END_CRITICAL_SECTION();
    do {
        Py_BEGIN_CRITICAL_SECTION(self);
        more = gather_shared(self, &left, &leaving);
        self->pinned = self->held_count;
        Py_END_CRITICAL_SECTION();
        pw_batch_release_pinned(self, &leaving); /* no memory to keep them */
    } while (more && left > 0);

    size_t dropped = 0;
    if (self->policy == PW_CLEAR) {
        dropped = drop(self, reason, pw_pool_idle(self) + self->held_count, take_all, resting);
    } else if (self->policy == PW_VICTIM) {
        dropped = drop(self, reason, pw_queue_length(&self->victim), take_victim, resting);
        Py_BEGIN_CRITICAL_SECTION(self);
        make_victims(self);
        Py_END_CRITICAL_SECTION();
    } else {
        dropped = drop(self, reason, surplus, take_surplus, resting);
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    pw_queue_end_period(&self->depot);
    Py_END_CRITICAL_SECTION();
    return dropped;
}

PyObject *
pw_pool_trim(pw_pool *self, PyObject *const *args, Py_ssize_t count)
{
    pw_reason reason;
    if (pw_reason_argument(args, count, &reason) < 0) {
        return NULL;
    }
    if (self->checker != NULL) {
        PyObject *done = PyObject_CallMethod(self->checker, "look", NULL);
        if (done == NULL) { /* whoever trims has no part in it: it may be the timer */
            PyErr_WriteUnraisable((PyObject *)self);
        }
        Py_XDECREF(done);
    }
    return PyLong_FromSize_t(trim(self, reason));
}
