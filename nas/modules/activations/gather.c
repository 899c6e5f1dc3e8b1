/* Table look-ups for bfloat16 activations: a bfloat16 number's 16 bits are the index. Loops, nothing else; n elements each.
 *
 * Built by native.py with the machine's C compiler, called through ctypes. */
#include <stdint.h>
#include <string.h>

static inline float from_bf16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t rounded = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    return (bits & 0x7fffffff) > 0x7f800000 ? (uint16_t)((bits >> 16) | 0x40) : rounded;
}

/* y = values[x] */
void nas_forward(const uint16_t *restrict x, const uint16_t *restrict values, uint16_t *restrict y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = values[x[i]];
}

/* dx = slopes[x] * dy */
void nas_backward(const uint16_t *restrict x, const float *restrict slopes, const uint16_t *restrict dy,
                  uint16_t *restrict dx, int64_t n) {
    for (int64_t i = 0; i < n; i++) dx[i] = to_bf16(slopes[x[i]] * from_bf16(dy[i]));
}

/* sum of slopes[x] * dy: the gradient of a learnable parameter. Blocks keep float32 sums short. */
double nas_sum(const uint16_t *restrict x, const float *restrict slopes, const uint16_t *restrict dy, int64_t n) {
    enum { LANES = 16, BLOCK = 4096 };
    double total = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        int64_t end = start + BLOCK < n ? start + BLOCK : n;
        float sums[LANES] = {0};
        int64_t i = start;
        for (; i + LANES <= end; i += LANES)
            for (int lane = 0; lane < LANES; lane++) sums[lane] += slopes[x[i + lane]] * from_bf16(dy[i + lane]);
        for (; i < end; i++) sums[0] += slopes[x[i]] * from_bf16(dy[i]);
        for (int lane = 0; lane < LANES; lane++) total += sums[lane];
    }
    return total;
}
