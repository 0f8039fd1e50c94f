/* Attention within the blocks of one stream, forward and backward, in fp32: each block sees an earlier run of tokens and,
   causally, itself. Compiled by groupwise/model/stream_attention.py.

   Letters: S tokens of the stream, B blocks, H query heads, K heads of keys and values (K divides H), D numbers a head, a
   multiple of 16. Of one block: n keys, those of the run before its own, in columns up to `room`, a multiple of PAIR.

   Gradients of keys are summed by each thread over its blocks and then over the threads in their order: the same number
   of threads gives the same bits. */

#include "vectors.h"

#define PAIR (2 * WIDTH)
#define ROWS 32          /* queries at once, whose scores stay in the cache */
#define TALL (WIDTH / 2) /* rows of a product whose sums registers hold */

typedef struct {
    const float *query, *key, *value; /* [S, H D], [S, K D] twice */
    float *out, *sums;                /* [S, H D]; [S, H]: log of the sum of a row's exp(scores) */
    const float *slope;               /* [S, H D], d loss / d out */
    float *by_query, *by_key, *by_value;
    const int64_t *blocks;            /* [B, 4]: start, end, seen_start, seen_end */
    int64_t S, B, H, K, D, window;    /* window: tokens that are seen, the newest included; 0: all */
    float scaling;
} Stream;

typedef struct {
    float *keys, *values;               /* [n, D] */
    float *across_keys, *across_values; /* [D, room] */
    float *by_keys, *by_values;         /* [n, D] */
    float *weights, *slopes;            /* [ROWS, room] */
} Memory;

/* rows x (vectors WIDTH) of out [., out_step] = or += a b: a(row, k) at a[row * row_step + k * k_step], b [depth, b_step] */
INLINE void tile(
    const float *a, int64_t row_step, int64_t k_step, const float *b, int64_t b_step, int64_t depth, float *out,
    int64_t out_step, int add, const int rows, const int vectors
) {
    vec sums[TALL][2];
    for (int row = 0; row < rows; row++)
        for (int at = 0; at < vectors; at++) {
            sums[row][at] = all(0);
            if (add) sums[row][at] += load(out + row * out_step + at * WIDTH);
        }
    for (int64_t k = 0; k < depth; k++) {
        vec part[2];
        for (int at = 0; at < vectors; at++) part[at] = load(b + k * b_step + at * WIDTH);
        for (int row = 0; row < rows; row++)
            for (int at = 0; at < vectors; at++) sums[row][at] += a[row * row_step + k * k_step] * part[at];
    }
    for (int row = 0; row < rows; row++)
        for (int at = 0; at < vectors; at++) store(out + row * out_step + at * WIDTH, sums[row][at]);
}

/* out [rows, columns] = or += a b; columns a multiple of WIDTH */
static void product(
    const float *a, int64_t row_step, int64_t k_step, const float *b, int64_t b_step, int64_t depth, float *out,
    int64_t out_step, int64_t rows, int64_t columns, int add
) {
    for (int64_t column = 0; column < columns; column += PAIR) {
        int wide = columns - column >= PAIR;
        const float *of = b + column;
        int64_t row = 0;
        for (; row + TALL <= rows; row += TALL) {
            const float *from = a + row * row_step;
            float *to = out + row * out_step + column;
            if (wide) tile(from, row_step, k_step, of, b_step, depth, to, out_step, add, TALL, 2);
            else tile(from, row_step, k_step, of, b_step, depth, to, out_step, add, TALL, 1);
        }
        for (; row < rows; row++) {
            const float *from = a + row * row_step;
            float *to = out + row * out_step + column;
            if (wide) tile(from, row_step, k_step, of, b_step, depth, to, out_step, add, 1, 2);
            else tile(from, row_step, k_step, of, b_step, depth, to, out_step, add, 1, 1);
        }
    }
}

INLINE int64_t padded(int64_t size) { return (size + PAIR - 1) / PAIR * PAIR; }

/* Rows of a head, of the run and of the block itself, behind each other; across: [D, room] or 0. */
static void gather(
    const float *rows, int64_t step, const int64_t *block, float *to, float *across, int64_t room, int64_t D
) {
    int64_t before = block[3] - block[2], n = before + block[1] - block[0];
    for (int64_t token = 0; token < n; token++) {
        const float *from = rows + (token < before ? block[2] + token : block[0] + token - before) * step;
        memcpy(to + token * D, from, 4 * D);
        if (across)
            for (int64_t d = 0; d < D; d++) across[d * room + token] = from[d];
    }
    if (across)
        for (int64_t d = 0; d < D; d++) memset(across + d * room + n, 0, 4 * (room - n));
}

/* Columns of the queries first to last that some of them see. */
typedef struct {
    int64_t low, high; /* multiples of PAIR */
} Seen;

INLINE int64_t first_seen(const Stream *s, int64_t place) {
    return s->window && place + 1 > s->window ? place + 1 - s->window : 0;
}

/* Scaled scores of queries [rows, D] at `place` and behind, -inf where they do not see. */
static Seen scores(
    const Stream *s, const float *query, const Memory *m, int64_t room, int64_t place, int64_t rows, float *to
) {
    Seen seen = {first_seen(s, place) / PAIR * PAIR, padded(place + rows)};
    product(query, s->H * s->D, 1, m->across_keys + seen.low, room, s->D, to + seen.low, room, rows, seen.high - seen.low, 0);
    for (int64_t row = 0; row < rows; row++) {
        float *own = to + row * room;
        for (int64_t at = seen.low; at < seen.high; at += WIDTH) store(own + at, load(own + at) * s->scaling);
        for (int64_t at = seen.low; at < first_seen(s, place + row); at++) own[at] = -INFINITY;
        for (int64_t at = place + row + 1; at < seen.high; at++) own[at] = -INFINITY;
    }
    return seen;
}

INLINE float highest(const float *scores, Seen seen) {
    vec found = all(-INFINITY);
    for (int64_t at = seen.low; at < seen.high; at += WIDTH)
        found = where(load(scores + at) > found, load(scores + at), found);
    float most = -INFINITY;
    for (int at = 0; at < WIDTH; at++) most = found[at] > most ? found[at] : most;
    return most;
}

static void forward_block(const Stream *s, const int64_t *block, int64_t k, const Memory *m, int64_t room) {
    int64_t D = s->D, G = s->H / s->K, before = block[3] - block[2], tokens = block[1] - block[0];
    gather(s->key + k * D, s->K * D, block, m->keys, m->across_keys, room, D);
    gather(s->value + k * D, s->K * D, block, m->values, 0, room, D);
    for (int64_t head = k * G; head < (k + 1) * G; head++)
        for (int64_t first = 0; first < tokens; first += ROWS) {
            int64_t rows = tokens - first < ROWS ? tokens - first : ROWS, token = block[0] + first;
            float *out = s->out + (token * s->H + head) * D, shares[ROWS];
            Seen seen = scores(s, s->query + (token * s->H + head) * D, m, room, before + first, rows, m->weights);
            for (int64_t row = 0; row < rows; row++) {
                float *own = m->weights + row * room, most = highest(own, seen);
                vec sum = {0};
                for (int64_t at = seen.low; at < seen.high; at += WIDTH) {
                    vec weight = exp_of(load(own + at) - most);
                    sum += weight;
                    store(own + at, weight);
                }
                shares[row] = 1.0f / sum_of(sum);
                s->sums[(token + row) * s->H + head] = most + logf(sum_of(sum));
            }
            int64_t depth = before + first + rows - seen.low;
            product(m->weights + seen.low, room, 1, m->values + seen.low * D, D, depth, out, s->H * D, rows, D, 0);
            for (int64_t row = 0; row < rows; row++)
                for (int64_t d = 0; d < D; d += WIDTH)
                    store(out + row * s->H * D + d, load(out + row * s->H * D + d) * shares[row]);
        }
}

/* Weights of a row, and the gradients of its scores in place of those of its weights. */
INLINE void row_backward(float *weights, float *slopes, float sum, float along, float scaling, Seen seen) {
    for (int64_t at = seen.low; at < seen.high; at += WIDTH) {
        vec weight = exp_of(load(weights + at) - sum);
        store(weights + at, weight);
        store(slopes + at, weight * (load(slopes + at) - along) * scaling);
    }
}

static void backward_block(
    const Stream *s, const int64_t *block, int64_t k, const Memory *m, int64_t room, float *by_key, float *by_value
) {
    int64_t D = s->D, G = s->H / s->K, before = block[3] - block[2], tokens = block[1] - block[0], step = s->H * D;
    gather(s->key + k * D, s->K * D, block, m->keys, m->across_keys, room, D);
    gather(s->value + k * D, s->K * D, block, m->values, m->across_values, room, D);
    memset(m->by_keys, 0, 4 * (before + tokens) * D);
    memset(m->by_values, 0, 4 * (before + tokens) * D);
    for (int64_t head = k * G; head < (k + 1) * G; head++)
        for (int64_t first = 0; first < tokens; first += ROWS) {
            int64_t rows = tokens - first < ROWS ? tokens - first : ROWS, token = block[0] + first;
            int64_t at = (token * s->H + head) * D;
            Seen seen = scores(s, s->query + at, m, room, before + first, rows, m->weights);
            int64_t columns = seen.high - seen.low, depth = before + first + rows - seen.low, low = seen.low;
            product(s->slope + at, step, 1, m->across_values + low, room, D, m->slopes + low, room, rows, columns, 0);
            for (int64_t row = 0; row < rows; row++) {
                vec along = {0};
                for (int64_t d = 0; d < D; d += WIDTH)
                    along += load(s->slope + at + row * step + d) * load(s->out + at + row * step + d);
                float sum = s->sums[(token + row) * s->H + head];
                row_backward(m->weights + row * room, m->slopes + row * room, sum, sum_of(along), s->scaling, seen);
            }
            product(m->slopes + low, room, 1, m->keys + low * D, D, depth, s->by_query + at, step, rows, D, 0);
            product(m->slopes + low, 1, room, s->query + at, step, rows, m->by_keys + low * D, D, depth, D, 1);
            product(m->weights + low, 1, room, s->slope + at, step, rows, m->by_values + low * D, D, depth, D, 1);
        }
    for (int64_t token = 0; token < before + tokens; token++) {
        int64_t to = ((token < before ? block[2] + token : block[0] + token - before) * s->K + k) * D;
        for (int64_t d = 0; d < D; d += WIDTH) {
            store(by_key + to + d, load(by_key + to + d) + load(m->by_keys + token * D + d));
            store(by_value + to + d, load(by_value + to + d) + load(m->by_values + token * D + d));
        }
    }
}

/* Numbers that a thread needs for blocks of at most n keys. */
static int64_t room_of(const Stream *s) {
    int64_t most = 0;
    for (int64_t b = 0; b < s->B; b++) {
        const int64_t *block = s->blocks + 4 * b;
        int64_t n = block[3] - block[2] + block[1] - block[0];
        most = n > most ? n : most;
    }
    return padded(most);
}

static float *memory_of(Memory *m, int64_t room, int64_t D) {
    float *all_of_it = malloc(4 * (6 * room * D + 2 * ROWS * room)), *at = all_of_it;
    float **parts[] = {&m->keys, &m->values, &m->across_keys, &m->across_values, &m->by_keys, &m->by_values};
    if (!at) return 0;
    for (int part = 0; part < 6; part++, at += room * D) *parts[part] = at;
    m->weights = at, m->slopes = at + ROWS * room;
    return all_of_it;
}

INLINE int64_t first_task(int64_t tasks, int thread, int threads) { return tasks * thread / threads; }

/* Fills out and sums; 1 if there is no memory. */
int attend_forward(const Stream *s, int threads) {
    int failed = 0;
    int64_t room = room_of(s), tasks = s->B * s->K;
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
    for (int thread = 0; thread < threads; thread++) {
        Memory m;
        float *memory = memory_of(&m, room, s->D);
        if (!memory) failed = 1;
        for (int64_t task = first_task(tasks, thread, threads); memory && task < first_task(tasks, thread + 1, threads); task++)
            forward_block(s, s->blocks + 4 * (task / s->K), task % s->K, &m, room);
        free(memory);
    }
    return failed;
}

/* Fills by_query, and adds to by_key and by_value; 1 if there is no memory. */
int attend_backward(const Stream *s, int threads) {
    int failed = 0;
    int64_t room = room_of(s), tasks = s->B * s->K, size = s->S * s->K * s->D;
    float *more = threads > 1 ? calloc(2 * (threads - 1) * size, sizeof(float)) : 0;
    if (threads > 1 && !more) return 1;
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
    for (int thread = 0; thread < threads; thread++) {
        Memory m;
        float *memory = memory_of(&m, room, s->D), *own = more + 2 * (thread - 1) * size;
        float *by_key = thread ? own : s->by_key, *by_value = thread ? own + size : s->by_value;
        if (!memory) failed = 1;
        for (int64_t task = first_task(tasks, thread, threads); memory && task < first_task(tasks, thread + 1, threads); task++)
            backward_block(s, s->blocks + 4 * (task / s->K), task % s->K, &m, room, by_key, by_value);
        free(memory);
    }
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t at = 0; at < size; at += WIDTH)
        for (int thread = 1; thread < threads; thread++) {
            const float *own = more + 2 * (thread - 1) * size;
            store(s->by_key + at, load(s->by_key + at) + load(own + at));
            store(s->by_value + at, load(s->by_value + at) + load(own + size + at));
        }
    free(more);
    return failed;
}
