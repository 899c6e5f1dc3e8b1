/* The loops of generated kernels. PARAMS, value and gradients are generated, and stand before this.
 *
 * Parameter k of channel c is p[k * channels + c]. A loop is either over elements of one channel or over channels. */

/* y = f(x) */
static inline void values_of(const float *restrict x, const float *restrict p, float *restrict y, int64_t n,
                             int64_t channels, const int step) {
    for (int64_t i = 0; i < n; i++) {
        float own[PARAMS + 1];
        for (int k = 0; k < PARAMS; k++) own[k] = p[k * channels + i * step];
        y[i] = value(x[i], own);
    }
}

/* dx = f'(x) * dy, and to the sums of one channel the gradients of its parameters. */
static inline void gradients_of_one(const float *restrict x, const float *restrict dy, const float *restrict p,
                                    float *restrict dx, double *restrict sums, int64_t n, int64_t channels) {
    float own[PARAMS + 1], lanes[PARAMS + 1][LANES] = {{0}}, d[PARAMS + 1];
    int64_t i = 0;
    for (int k = 0; k < PARAMS; k++) own[k] = p[k * channels];
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            dx[i + lane] = gradients(x[i + lane], own, dy[i + lane], d);
            for (int k = 0; k < PARAMS; k++) lanes[k][lane] += d[k];
        }
    for (; i < n; i++) {
        dx[i] = gradients(x[i], own, dy[i], d);
        for (int k = 0; k < PARAMS; k++) lanes[k][0] += d[k];
    }
    for (int k = 0; k < PARAMS; k++)
        for (int lane = 0; lane < LANES; lane++) sums[k * channels] += lanes[k][lane];
}

/* The same for elements that are of a channel each. */
static inline void gradients_of_many(const float *restrict x, const float *restrict dy, const float *restrict p,
                                     float *restrict dx, double *restrict sums, int64_t n, int64_t channels) {
    for (int64_t i = 0; i < n; i++) {
        float own[PARAMS + 1], d[PARAMS + 1];
        for (int k = 0; k < PARAMS; k++) own[k] = p[k * channels + i];
        dx[i] = gradients(x[i], own, dy[i], d);
        for (int k = 0; k < PARAMS; k++) sums[k * channels + i] += d[k];
    }
}

static inline void forward_piece(const float *x, const float *p, float *y, int64_t n, int64_t channels, int64_t inner) {
    if (in_rows(channels, inner)) values_of(x, p, y, n, channels, 1);
    else values_of(x, p, y, n, channels, 0);
}

static inline void backward_piece(const float *x, const float *dy, const float *p, float *dx, double *sums, int64_t n,
                                  int64_t channels, int64_t inner) {
    if (in_rows(channels, inner)) gradients_of_many(x, dy, p, dx, sums, n, channels);
    else gradients_of_one(x, dy, p, dx, sums, n, channels);
}

static inline void unpack(const uint16_t *restrict bits, float *restrict values, int64_t n) {
    for (int64_t i = 0; i < n; i++) values[i] = from_bf16(bits[i]);
}

static inline void pack(const float *restrict values, uint16_t *restrict bits, int64_t n) {
    for (int64_t i = 0; i < n; i++) bits[i] = to_bf16(values[i]);
}

void forward_float32(const float *x, const float *p, float *y, int64_t outer, int64_t channels, int64_t inner,
                     int64_t threads) {
    PARALLEL
    for (int64_t number = 0; number < pieces_of(outer, channels, inner); number++) {
        struct piece at = piece_at(number, channels, inner);
        forward_piece(x + at.start, p + at.channel, y + at.start, at.count, channels, inner);
    }
}

void forward_bfloat16(const uint16_t *x, const float *p, uint16_t *y, int64_t outer, int64_t channels, int64_t inner,
                      int64_t threads) {
    PARALLEL
    for (int64_t number = 0; number < pieces_of(outer, channels, inner); number++) {
        float in[BLOCK], out[BLOCK];
        struct piece at = piece_at(number, channels, inner);
        unpack(x + at.start, in, at.count);
        forward_piece(in, p + at.channel, out, at.count, channels, inner);
        pack(out, y + at.start, at.count);
    }
}

/* sums: (threads, PARAMS, channels), zeroes to begin with; each thread has its own. */
void backward_float32(const float *x, const float *dy, const float *p, float *dx, double *sums, int64_t outer,
                      int64_t channels, int64_t inner, int64_t threads) {
    PARALLEL
    for (int64_t number = 0; number < pieces_of(outer, channels, inner); number++) {
        struct piece at = piece_at(number, channels, inner);
        double *own = sums + THREAD * PARAMS * channels + at.channel;
        backward_piece(x + at.start, dy + at.start, p + at.channel, dx + at.start, own, at.count, channels, inner);
    }
}

void backward_bfloat16(const uint16_t *x, const uint16_t *dy, const float *p, uint16_t *dx, double *sums, int64_t outer,
                       int64_t channels, int64_t inner, int64_t threads) {
    PARALLEL
    for (int64_t number = 0; number < pieces_of(outer, channels, inner); number++) {
        float in[BLOCK], of[BLOCK], out[BLOCK];
        struct piece at = piece_at(number, channels, inner);
        unpack(x + at.start, in, at.count);
        unpack(dy + at.start, of, at.count);
        backward_piece(in, of, p + at.channel, out, sums + THREAD * PARAMS * channels + at.channel, at.count, channels,
                       inner);
        pack(out, dx + at.start, at.count);
    }
}
