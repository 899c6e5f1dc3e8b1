/* Table look-ups for bfloat16 activations: a bfloat16 number's 16 bits are the index. Loops, nothing else; n elements each.
 *
 * Built by native.py with the machine's C compiler, called through ctypes. */
#include "bf16.h"
#include "threads.h"

/* Blocks of so many elements stay in the innermost cache between two loops, and keep sums in float32 short. */
enum { ENTRIES = 65536, BLOCK = 4096, SLICE = 512, CHUNK = 8 };

/* y = values[x]. A chunk at a time: its results are put together in a register, and stored at once. */
static inline void look_up(const uint16_t *restrict x, const uint16_t *restrict values, uint16_t *restrict y, int64_t n) {
    int64_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK) {
        uint16_t found[CHUNK];
        for (int j = 0; j < CHUNK; j++) found[j] = values[x[i + j]];
        memcpy(y + i, found, sizeof found);
    }
    for (; i < n; i++) y[i] = values[x[i]];
}

static inline void look_up_slopes(const uint16_t *restrict x, const float *restrict slopes, float *restrict y, int64_t n) {
    int64_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK) {
        float found[CHUNK];
        for (int j = 0; j < CHUNK; j += 4) {  /* four indices in a register: one read instead of four */
            uint64_t four;
            memcpy(&four, x + i + j, sizeof four);
            for (int k = 0; k < 4; k++) found[j + k] = slopes[four >> 16 * k & 0xffff];
        }
        memcpy(y + i, found, sizeof found);
    }
    for (; i < n; i++) y[i] = slopes[x[i]];
}

/* Whether an input other than zero has a magnitude whose bits lie outside of [low, low + span). */
static inline int is_outside(const uint16_t *restrict x, int64_t low, int64_t span, int64_t n) {
    uint16_t first = (uint16_t)low, count = (uint16_t)span, found = 0;
    for (int64_t i = 0; i < n; i++) {
        uint16_t magnitude = x[i] & 0x7fff;
        found |= (uint16_t)(((uint16_t)(magnitude - first) >= count) & (magnitude != 0));
    }
    return found;
}

int nas_outside(const uint16_t *restrict x, int64_t low, int64_t span, int64_t n) {
    for (int64_t start = 0; start < n; start += BLOCK)
        if (is_outside(x + start, low, span, start + BLOCK < n ? BLOCK : n - start)) return 1;
    return 0;
}

void nas_forward(const uint16_t *restrict x, const uint16_t *restrict values, uint16_t *restrict y, int64_t n,
                 int64_t threads) {
    PARALLEL
    for (int64_t start = 0; start < n; start += BLOCK)
        look_up(x + start, values, y + start, start + BLOCK < n ? BLOCK : n - start);
}

/* dx = slopes[x] * dy */
void nas_backward(const uint16_t *restrict x, const float *restrict slopes, const uint16_t *restrict dy,
                  uint16_t *restrict dx, int64_t n, int64_t threads) {
    PARALLEL
    for (int64_t start = 0; start < n; start += SLICE) {
        float slope[SLICE];
        int64_t count = start + SLICE < n ? SLICE : n - start;
        look_up_slopes(x + start, slopes, slope, count);
        for (int64_t i = 0; i < count; i++) dx[start + i] = to_bf16(slope[i] * from_bf16(dy[start + i]));
    }
}

/* The sum of slopes[x] * dy over at most BLOCK elements. */
static inline double block_sum(const uint16_t *restrict x, const float *restrict slopes, const uint16_t *restrict dy,
                               int64_t n) {
    enum { LANES = 16 };
    float slope[BLOCK], sums[LANES] = {0};
    double total = 0;
    int64_t i = 0;
    look_up_slopes(x, slopes, slope, n);
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += slope[i + lane] * from_bf16(dy[i + lane]);
    for (; i < n; i++) sums[0] += slope[i] * from_bf16(dy[i]);
    for (int lane = 0; lane < LANES; lane++) total += sums[lane];
    return total;
}

/* The sum of slopes[x] * dy: the gradient of a learnable parameter. */
double nas_sum(const uint16_t *restrict x, const float *restrict slopes, const uint16_t *restrict dy, int64_t n) {
    double total = 0;
    for (int64_t start = 0; start < n; start += BLOCK)
        total += block_sum(x + start, slopes, dy + start, start + BLOCK < n ? BLOCK : n - start);
    return total;
}

/* --- batch norm, a residual and the activation in one: y = values[bf16(x * scale + shift + residual)] -------------------
 *
 * x, residual (NULL if there is none), y and their gradients are rows of channels, which is channels_last; the rest has a
 * value a channel. At most BLOCK channels; multiples of 64 are fastest. */

static inline int64_t block_rows(int64_t channels) { return channels < BLOCK ? BLOCK / channels : 1; }

/* Mean and biased variance. The sums are of differences to the first block's mean, lest they cancel. */
void nas_moments(const uint16_t *restrict x, float *restrict mean, float *restrict variance, int64_t rows,
                 int64_t channels) {
    float pivot[BLOCK], sum[BLOCK], squares[BLOCK];
    double sums[BLOCK], all_squares[BLOCK];
    int64_t step = block_rows(channels), first = rows < step ? rows : step;
    for (int64_t c = 0; c < channels; c++) pivot[c] = 0, sums[c] = 0, all_squares[c] = 0;
    for (int64_t row = 0; row < first; row++)
        for (int64_t c = 0; c < channels; c++) pivot[c] += from_bf16(x[row * channels + c]);
    for (int64_t c = 0; c < channels; c++) pivot[c] /= first;
    for (int64_t start = 0; start < rows; start += step) {
        int64_t end = start + step < rows ? start + step : rows;
        for (int64_t c = 0; c < channels; c++) sum[c] = 0, squares[c] = 0;
        for (int64_t row = start; row < end; row++)
            for (int64_t c = 0; c < channels; c++) {
                float difference = from_bf16(x[row * channels + c]) - pivot[c];
                sum[c] += difference;
                squares[c] += difference * difference;
            }
        for (int64_t c = 0; c < channels; c++) sums[c] += sum[c], all_squares[c] += squares[c];
    }
    for (int64_t c = 0; c < channels; c++) {
        double shift = sums[c] / rows, spread = all_squares[c] / rows - shift * shift;
        mean[c] = (float)(pivot[c] + shift);
        variance[c] = spread > 0 || spread != spread ? (float)spread : 0;
    }
}

/* The inputs of the activation, of `rows` rows. */
static inline void normalize(const uint16_t *restrict x, const uint16_t *restrict residual, const float *restrict scale,
                             const float *restrict shift, uint16_t *restrict u, int64_t rows, int64_t channels) {
    if (residual)
        for (int64_t row = 0; row < rows; row++)
            for (int64_t c = 0; c < channels; c++) {
                int64_t i = row * channels + c;
                u[i] = to_bf16(from_bf16(x[i]) * scale[c] + shift[c] + from_bf16(residual[i]));
            }
    else
        for (int64_t row = 0; row < rows; row++)
            for (int64_t c = 0; c < channels; c++) {
                int64_t i = row * channels + c;
                u[i] = to_bf16(from_bf16(x[i]) * scale[c] + shift[c]);
            }
}

/* Returns whether an input of the activation is outside, as in nas_outside. */
int nas_norm_forward(const uint16_t *restrict x, const uint16_t *restrict residual, const float *restrict scale,
                      const float *restrict shift, const uint16_t *restrict values, uint16_t *restrict y, int64_t low,
                     int64_t span, int64_t rows, int64_t channels) {
    uint16_t u[BLOCK];
    int64_t step = block_rows(channels);
    int outside = 0;
    for (int64_t start = 0; start < rows; start += step) {
        int64_t count = start + step < rows ? step : rows - start, at = start * channels;
        const uint16_t *r = residual ? residual + at : 0;
        normalize(x + at, r, scale, shift, u, count, channels);
        outside |= is_outside(u, low, span, count * channels);
        look_up(u, values, y + at, count * channels);
    }
    return outside;
}

/* g = slopes[...] * dy, the gradient of the normalised input and of the residual; and its sums over the rows, plain and
 * times (x - mean). slopes has a row for x and one for each of the activation's parameters, whose gradients are
 * param_grads. */
void nas_norm_slopes(const uint16_t *restrict x, const uint16_t *restrict residual, const float *restrict scale,
                     const float *restrict shift, const float *restrict mean, const float *restrict slopes,
                     const uint16_t *restrict dy, uint16_t *restrict g, double *restrict sums, double *restrict products,
                     double *restrict param_grads, int64_t parameters, int64_t rows, int64_t channels) {
    uint16_t u[BLOCK];
    float slope[BLOCK], sum[BLOCK], product[BLOCK];
    int64_t step = block_rows(channels);
    for (int64_t c = 0; c < channels; c++) sums[c] = 0, products[c] = 0;
    for (int64_t p = 0; p < parameters; p++) param_grads[p] = 0;
    for (int64_t start = 0; start < rows; start += step) {
        int64_t count = start + step < rows ? step : rows - start, at = start * channels;
        normalize(x + at, residual ? residual + at : 0, scale, shift, u, count, channels);
        for (int64_t p = 0; p < parameters; p++)
            param_grads[p] += block_sum(u, slopes + (p + 1) * ENTRIES, dy + at, count * channels);
        look_up_slopes(u, slopes, slope, count * channels);
        for (int64_t c = 0; c < channels; c++) sum[c] = 0, product[c] = 0;
        for (int64_t row = 0; row < count; row++)
            for (int64_t c = 0; c < channels; c++) {
                int64_t i = row * channels + c;
                float gradient = slope[i] * from_bf16(dy[at + i]);
                g[at + i] = to_bf16(gradient);
                sum[c] += gradient;
                product[c] += gradient * (from_bf16(x[at + i]) - mean[c]);
            }
        for (int64_t c = 0; c < channels; c++) sums[c] += sum[c], products[c] += product[c];
    }
}

/* dx = a * g + b + d * (x - mean); dx may be g. */
void nas_norm_backward(const uint16_t *x, const uint16_t *g, const float *restrict mean, const float *restrict a,
                       const float *restrict b, const float *restrict d, uint16_t *dx, int64_t rows, int64_t channels) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < channels; c++) {
            int64_t i = row * channels + c;
            dx[i] = to_bf16(a[c] * from_bf16(g[i]) + b[c] + d[c] * (from_bf16(x[i]) - mean[c]));
        }
}
