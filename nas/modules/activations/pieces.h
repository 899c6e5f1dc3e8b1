/* How generated kernels cut their work into pieces: small enough for the innermost cache, and for sums in float32. */
#include "threads.h"

enum { BLOCK = 2048, LANES = 16 };

struct piece {
    int64_t start, count, channel;
};

/* Elements lie in memory as (outer, channels, inner). Where channels are innermost, a piece has many of them, else one. */
static inline int in_rows(int64_t channels, int64_t inner) { return inner == 1 && channels > 1; }

static inline int64_t blocks_of(int64_t channels, int64_t inner) {
    return ((in_rows(channels, inner) ? channels : inner) + BLOCK - 1) / BLOCK;
}

static inline int64_t pieces_of(int64_t outer, int64_t channels, int64_t inner) {
    return (in_rows(channels, inner) ? outer : outer * channels) * blocks_of(channels, inner);
}

static inline struct piece piece_at(int64_t number, int64_t channels, int64_t inner) {
    int64_t blocks = blocks_of(channels, inner), segment = number / blocks, at = number % blocks * BLOCK;
    int64_t length = in_rows(channels, inner) ? channels : inner, left = length - at;
    return (struct piece){segment * length + at, left < BLOCK ? left : BLOCK,
                          in_rows(channels, inner) ? at : segment % channels};
}
