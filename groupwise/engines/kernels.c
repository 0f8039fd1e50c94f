/* What a decode step does beside its matrix products, in fp32: norms, rotary angles, attention over a question that a
   group shares and over each output's own tokens, the gate of an MLP. Compiled by groupwise/engines/kernels.py.

   Letters: R rows (outputs on their way), H query heads, K heads of keys and values, D numbers a head, N tokens of a
   question, T tokens that an output's own cache has room for. */

#include "vectors.h"

/* x, out: [R, size]; size a multiple of 16 */
void rms_norm(
    const float *x, const float *weight, float eps, float *out, int64_t rows, int64_t size, int threads
) {
#pragma omp parallel for num_threads(threads) if (rows * size > FEW)
    for (int64_t row = 0; row < rows; row++) norm_row(x + row * size, weight, eps, out + row * size, size);
}

/* silu(gate) up: gate_up [R, 2 size], gate before up; out [R, size]; size a multiple of 16 */
void silu_product(const float *gate_up, float *out, int64_t rows, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * size > FEW)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t at = 0; at < size; at += WIDTH) {
            vec gate = load(gate_up + row * 2 * size + at), up = load(gate_up + (row * 2 + 1) * size + at);
            store(out + row * size + at, gate / (1.0f + exp_below(gate)) * up);
        }
}

/* Scores of G queries [G, D] against n keys [n, D], into scores [G, room]. Four keys at a time, whose sums wait in
   registers. */
static void score(const float *query, const float *keys, int64_t n, float *scores, int64_t room, int64_t G, int64_t D) {
    int64_t token = 0;
    for (; token + 4 <= n; token += 4) {
        const float *key = keys + token * D;
        for (int64_t g = 0; g < G; g++) {
            vec sums[4] = {{0}, {0}, {0}, {0}};
            for (int64_t d = 0; d < D; d += WIDTH) {
                vec part = load(query + g * D + d);
                for (int at = 0; at < 4; at++) sums[at] += part * load(key + at * D + d);
            }
            for (int at = 0; at < 4; at++) scores[g * room + token + at] = sum_of(sums[at]);
        }
    }
    for (; token < n; token++)
        for (int g = 0; g < G; g++) {
            vec sum = {0};
            for (int64_t d = 0; d < D; d += WIDTH) sum += load(query + g * D + d) * load(keys + token * D + d);
            scores[g * room + token] = sum_of(sum);
        }
}

/* out [G, D] += weights [G, room] times n values [n, D], for `parts` vectors of a head. */
INLINE void mix_part(
    const float *weights, const float *values, int64_t n, float *out, int64_t room, int G, int64_t D, int parts
) {
    vec sums[4][4];
    for (int g = 0; g < G; g++)
        for (int part = 0; part < parts; part++) sums[g][part] = load(out + g * D + part * WIDTH);
    for (int64_t token = 0; token < n; token++)
        for (int part = 0; part < parts; part++) {
            vec value = load(values + token * D + part * WIDTH);
            for (int g = 0; g < G; g++) sums[g][part] += weights[g * room + token] * value;
        }
    for (int g = 0; g < G; g++)
        for (int part = 0; part < parts; part++) store(out + g * D + part * WIDTH, sums[g][part]);
}

/* The same for all of a head, up to four queries and four vectors at a time, which is what registers hold. */
static void mix(const float *weights, const float *values, int64_t n, float *out, int64_t room, int64_t G, int64_t D) {
    for (int64_t g = 0; g < G; g += 4)
        for (int64_t d = 0; d < D; d += 4 * WIDTH) {
            const float *own = weights + g * room, *from = values + d;
            float *to = out + g * D + d;
            int queries = G - g < 4 ? (int)(G - g) : 4, parts = D - d < 4 * WIDTH ? (int)((D - d) / WIDTH) : 4;
            if (queries == 1 && parts == 4) mix_part(own, from, n, to, room, 1, D, 4);
            else if (queries == 2 && parts == 4) mix_part(own, from, n, to, room, 2, D, 4);
            else if (queries == 3 && parts == 4) mix_part(own, from, n, to, room, 3, D, 4);
            else if (queries == 4 && parts == 4) mix_part(own, from, n, to, room, 4, D, 4);
            else for (int one = 0; one < queries; one++)
                for (int part = 0; part < parts; part++)
                    mix_part(own + one * room, from + part * WIDTH, n, to + one * D + part * WIDTH, room, 1, D, 1);
        }
}

/* Scores [size] as weights that sum to 1. size: a multiple of 16. */
INLINE void softmax(float *scores, int64_t size) {
    vec highest = all(-INFINITY), sum = {0};
    for (int64_t at = 0; at < size; at += WIDTH) highest = where(load(scores + at) > highest, load(scores + at), highest);
    float most = -INFINITY;
    for (int at = 0; at < WIDTH; at++) most = highest[at] > most ? highest[at] : most;
    for (int64_t at = 0; at < size; at += WIDTH) {
        vec weight = exp_of(load(scores + at) - most);
        sum += weight;
        store(scores + at, weight);
    }
    float share = 1.0f / sum_of(sum);
    for (int64_t at = 0; at < size; at += WIDTH) store(scores + at, load(scores + at) * share);
}

typedef struct {
    const float *qkv;                     /* [R, (H + 2 K) D] */
    const float *cos, *sin;               /* [R, turned] */
    const float *query_norm, *key_norm;   /* [D], or 0: none */
    float *own_keys, *own_values;         /* [rows, K, T, D] */
    const float *asked_keys, *asked_values; /* [questions, K, longest, D] */
    const int64_t *slots, *asked, *lengths; /* [R]: the row's question, its tokens, own tokens in the cache */
    float *out;                           /* [R, H D] */
    int64_t R, H, K, D, T, longest, turned, window; /* window: tokens that are seen, the newest included; 0: all */
    float scaling, eps;
} Step;

static void attend_pair(const Step *s, int64_t row, int64_t k, float *memory, int64_t room) {
    int64_t D = s->D, G = s->H / s->K;
    float *query = memory, *scores = memory + G * D;
    const float *cos = s->cos + row * s->turned, *sin = s->sin + row * s->turned;
    const float *x = s->qkv + row * (s->H + 2 * s->K) * D;
    int64_t own = s->lengths[row], asked = s->asked[row], place = (row * s->K + k) * s->T * D;
    float *keys = s->own_keys + place, *values = s->own_values + place, normed[D];

    const float *key = x + (s->H + k) * D;
    if (s->key_norm) norm_row(key, s->key_norm, s->eps, normed, D), key = normed;
    rotate(key, cos, sin, keys + own * D, s->turned, D);
    memcpy(values + own * D, x + (s->H + s->K + k) * D, 4 * D);
    for (int g = 0; g < G; g++) {
        const float *from = x + (k * G + g) * D;
        if (s->query_norm) norm_row(from, s->query_norm, s->eps, normed, D), from = normed;
        rotate(from, cos, sin, query + g * D, s->turned, D);
        for (int64_t d = 0; d < D; d += WIDTH) store(query + g * D + d, load(query + g * D + d) * s->scaling);
    }

    int64_t first = s->window && asked + own + 1 > s->window ? asked + own + 1 - s->window : 0;
    int64_t from_asked = first < asked ? first : asked, from_own = first - from_asked;
    int64_t of_asked = asked - from_asked, of_own = own + 1 - from_own, n = of_asked + of_own;
    int64_t far = (s->slots[row] * s->K + k) * s->longest * D + from_asked * D;
    score(query, s->asked_keys + far, of_asked, scores, room, G, D);
    score(query, keys + from_own * D, of_own, scores + of_asked, room, G, D);
    int64_t filled = (n + WIDTH - 1) / WIDTH * WIDTH;
    for (int g = 0; g < G; g++) {
        for (int64_t at = n; at < filled; at++) scores[g * room + at] = -INFINITY;
        softmax(scores + g * room, filled);
    }
    float *out = s->out + (row * s->H + k * G) * D;
    memset(out, 0, 4 * G * D);
    mix(scores, s->asked_values + far, of_asked, out, room, G, D);
    mix(scores + of_asked, values + from_own * D, of_own, out, room, G, D);
}

/* One token of each row: its key and value go into the row's own cache, and its attention into `out`. 1 if there is no
   memory for the scores. D a multiple of 16. */
int attend(const Step *s, int threads) {
    int G = (int)(s->H / s->K), failed = 0;
    int64_t most = 0;
    for (int64_t row = 0; row < s->R; row++) {
        int64_t n = s->asked[row] + s->lengths[row] + 1;
        most = n > most ? n : most;
    }
    int64_t room = (most + WIDTH - 1) / WIDTH * WIDTH;
#pragma omp parallel num_threads(threads)
    {
        float *memory = malloc(4 * G * (s->D + room));
        if (!memory) failed = 1;
#pragma omp for collapse(2) schedule(static)
        for (int64_t row = 0; row < s->R; row++)
            for (int64_t k = 0; k < s->K; k++)
                if (memory) attend_pair(s, row, k, memory, room);
        free(memory);
    }
    return failed;
}
