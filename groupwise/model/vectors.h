/* Vectors of fp32 as wide as the processor's, and what several C files here do with them: loads, sums, exp, the norm of
   a row, rotary angles. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
#define WIDTH 16
#else
#define WIDTH 8
#endif
typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef float four __attribute__((vector_size(16)));
#define INLINE static inline __attribute__((always_inline, unused))
#define FEW 16384 /* numbers below which waking other threads costs more than it saves */

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec values) { *(vec *)to = values; }
INLINE vec all(float value) { return (vec){0} + value; }

INLINE vec where(ivec chosen, vec these, vec others) {
    return (vec)((chosen & (ivec)these) | (~chosen & (ivec)others));
}

INLINE float sum_of(vec values) {
    four parts[WIDTH / 4];
    memcpy(parts, &values, sizeof values);
    for (int part = 1; part < WIDTH / 4; part++) parts[0] += parts[part];
    return (parts[0][0] + parts[0][1]) + (parts[0][2] + parts[0][3]);
}

/* exp(x) = 2^n exp(r), |r| <= ln 2 / 2, by a polynomial of degree 6: at most 2 units of the last place off; 0 below
   -87. x at most 88. */
INLINE vec exp_of(vec x) {
    vec low = all(-87.0f);
    ivec hidden = x < low;
    x = where(hidden, low, x);
    vec shifted = x * 1.44269504f + 12582912.0f; /* 1.5 2^23: its last bits are the nearest whole number */
    vec n = shifted - 12582912.0f;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    ivec power = ((ivec)shifted - (ivec)all(12582912.0f) + 127) << 23;
    vec result = p * (vec)power;
    return where(hidden, all(0.0f), result);
}

/* exp(-x), at most exp(88) */
INLINE vec exp_below(vec x) { return exp_of(where(-x > all(88.0f), all(88.0f), -x)); }

/* 1 / sqrt(mean x^2 + eps), of one row */
INLINE float norm_scale(const float *x, float eps, int64_t size) {
    vec squares = {0};
    for (int64_t at = 0; at < size; at += WIDTH) squares += load(x + at) * load(x + at);
    return 1.0f / sqrtf(sum_of(squares) / (float)size + eps);
}

/* x / sqrt(mean x^2 + eps) * weight, of one row */
INLINE void norm_row(const float *x, const float *weight, float eps, float *out, int64_t size) {
    float scale = norm_scale(x, eps, size);
    for (int64_t at = 0; at < size; at += WIDTH) store(out + at, load(x + at) * scale * load(weight + at));
}

/* A head turned by its position's angles: the first `turned` numbers in two halves, the others as they are. */
INLINE void rotate(const float *x, const float *cos, const float *sin, float *out, int64_t turned, int64_t size) {
    int64_t half = turned / 2;
    for (int64_t at = 0; at < half; at++) {
        out[at] = x[at] * cos[at] - x[half + at] * sin[at];
        out[half + at] = x[half + at] * cos[half + at] + x[at] * sin[half + at];
    }
    for (int64_t at = turned; at < size; at++) out[at] = x[at];
}
