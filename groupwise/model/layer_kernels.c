/* What a decoder layer's forward and backward pass do beside products and attention, in fp32: norms, rotary angles, the
   gate of an MLP. Compiled by groupwise/model/layer_kernels.py.

   Letters: S tokens, N numbers of a token, H heads, D numbers a head. N and D are multiples of 16. Gradients of a norm's
   weight are summed by each thread over its rows and then over the threads in their order: the same number of threads
   gives the same bits. */

#include "vectors.h"

/* silu(gate) up, all [size], size a multiple of 16 */
void gated(const float *gate, const float *up, float *out, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (size > FEW)
    for (int64_t at = 0; at < size; at += WIDTH)
        store(out + at, load(gate + at) / (1.0f + exp_below(load(gate + at))) * load(up + at));
}

/* Takes d loss / d (silu(gate) up) in `slope`; leaves silu(gate) up there, and the gradients of gate and up in their
   places. All [size], size a multiple of 16. */
void gated_backward(float *gate, float *up, float *slope, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (size > FEW)
    for (int64_t at = 0; at < size; at += WIDTH) {
        vec g = load(gate + at), u = load(up + at), s = load(slope + at);
        vec sigmoid = 1.0f / (1.0f + exp_below(g)), silu = g * sigmoid;
        store(slope + at, silu * u);
        store(up + at, s * silu);
        store(gate + at, s * u * (sigmoid + silu * (1.0f - sigmoid)));
    }
}

/* out = residual + d loss / d x of a row's norm, whose weight's gradient is added to `sums`; both may be 0. out may be
   slope or residual. */
INLINE void norm_row_backward(
    const float *x, const float *weight, float eps, const float *slope, const float *residual, float *out, float *sums,
    int64_t size
) {
    float scale = norm_scale(x, eps, size);
    vec dot = {0};
    for (int64_t at = 0; at < size; at += WIDTH) dot += load(x + at) * load(slope + at) * load(weight + at);
    float along = sum_of(dot) * scale * scale / (float)size;
    for (int64_t at = 0; at < size; at += WIDTH) {
        vec of = load(slope + at), from = load(x + at);
        vec result = (of * load(weight + at) - from * along) * scale;
        if (sums) store(sums + at, load(sums + at) + of * from * scale);
        if (residual) result += load(residual + at);
        store(out + at, result);
    }
}

/* Adds each thread's sums [threads, size] to `to`. */
static void add_sums(const float *sums, int threads, int64_t size, float *to) {
    for (int thread = 0; thread < threads; thread++)
        for (int64_t at = 0; at < size; at += WIDTH)
            store(to + at, load(to + at) + load(sums + thread * size + at));
}

/* The first row of a thread: as many for each as can be, in order. */
INLINE int64_t first_row(int64_t rows, int thread, int threads) { return rows * thread / threads; }

/* Of x / sqrt(mean x^2 + eps) weight: out [S, N] = residual + d loss / d x, by_weight [N] += d loss / d weight, which may
   be 0. 1 if there is no memory. */
int rms_norm_backward(
    const float *x, const float *weight, float eps, const float *slope, const float *residual, float *out,
    float *by_weight, int64_t S, int64_t N, int threads
) {
    float *sums = by_weight ? calloc(threads * N, sizeof(float)) : 0;
    if (by_weight && !sums) return 1;
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (S * N > FEW)
    for (int thread = 0; thread < threads; thread++)
        for (int64_t row = first_row(S, thread, threads); row < first_row(S, thread + 1, threads); row++)
            norm_row_backward(
                x + row * N, weight, eps, slope + row * N, residual ? residual + row * N : 0, out + row * N,
                sums ? sums + thread * N : 0, N
            );
    if (sums) add_sums(sums, threads, N, by_weight);
    free(sums);
    return 0;
}

/* x, out: [S, N] */
void rms_norm(const float *x, const float *weight, float eps, float *out, int64_t S, int64_t N, int threads) {
#pragma omp parallel for num_threads(threads) if (S * N > FEW)
    for (int64_t row = 0; row < S; row++) norm_row(x + row * N, weight, eps, out + row * N, N);
}

/* Heads x [S, H, D], each normed where a weight [D] is given, turned by angles [S, turned], into out. */
void turn(
    const float *x, const float *weight, float eps, const float *cos, const float *sin, float *out, int64_t S,
    int64_t H, int64_t D, int64_t turned, int threads
) {
#pragma omp parallel for num_threads(threads) if (S * H * D > FEW)
    for (int64_t row = 0; row < S; row++)
        for (int64_t head = row * H; head < (row + 1) * H; head++) {
            float normed[D];
            const float *from = x + head * D;
            if (weight) norm_row(from, weight, eps, normed, D), from = normed;
            rotate(from, cos + row * turned, sin + row * turned, out + head * D, turned, D);
        }
}

/* The gradient of a head [D] before it was turned, in the place of the one after. */
INLINE void rotate_back(float *slope, const float *cos, const float *sin, int64_t turned) {
    int64_t half = turned / 2;
    for (int64_t at = 0; at < half; at++) {
        float first = slope[at], second = slope[half + at];
        slope[at] = first * cos[at] + second * sin[half + at];
        slope[half + at] = second * cos[half + at] - first * sin[at];
    }
}

/* The gradient of `turn`, [S, H, D], in the place of the one that it is given; by_weight [D] += that of the weight. 1 if
   there is no memory. */
int turn_backward(
    const float *x, const float *weight, float eps, const float *cos, const float *sin, float *slope, float *by_weight,
    int64_t S, int64_t H, int64_t D, int64_t turned, int threads
) {
    float *sums = by_weight ? calloc(threads * D, sizeof(float)) : 0;
    if (by_weight && !sums) return 1;
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (S * H * D > FEW)
    for (int thread = 0; thread < threads; thread++)
        for (int64_t row = first_row(S, thread, threads); row < first_row(S, thread + 1, threads); row++)
            for (int64_t head = row * H; head < (row + 1) * H; head++) {
                float *own = slope + head * D;
                rotate_back(own, cos + row * turned, sin + row * turned, turned);
                if (weight)
                    norm_row_backward(x + head * D, weight, eps, own, 0, own, sums ? sums + thread * D : 0, D);
            }
    if (sums) add_sums(sums, threads, D, by_weight);
    free(sums);
    return 0;
}
