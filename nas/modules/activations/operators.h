/* The operators of generated kernels, in float32. Built by GCC for x86-64, loops over them call libmvec's vectors. */
#include <math.h>

/* glibc has vector forms of these (libmvec, 4 ulp); it declares them only under -ffast-math, which would lose NaN. */
#define VECTOR __attribute__((simd("notinbranch"), const))
VECTOR float expf(float);
VECTOR float expm1f(float);
VECTOR float logf(float);
VECTOR float log1pf(float);
VECTOR float sinf(float);
VECTOR float cosf(float);
VECTOR float sinhf(float);
VECTOR float coshf(float);
VECTOR float tanhf(float);
VECTOR float asinhf(float);
VECTOR float atanf(float);
VECTOR float erff(float);
VECTOR float erfcf(float);
VECTOR float powf(float, float);

#define OP static inline float
/* Both sides are computed, and one is taken: a call in a branch would be no vector. */
OP select(int condition, float a, float b) { return condition ? a : b; }
#define where(condition, a, b) select(condition, a, b)
#define abs(x) fabsf(x)
#define sqrt(x) sqrtf(x)
#define exp(x) expf(x)
#define expm1(x) expm1f(x)
#define log(x) logf(x)
#define log1p(x) log1pf(x)
#define sin(x) sinf(x)
#define cos(x) cosf(x)
#define sinh(x) sinhf(x)
#define cosh(x) coshf(x)
#define tanh(x) tanhf(x)
#define asinh(x) asinhf(x)
#define atan(x) atanf(x)
#define erf(x) erff(x)
#define erfc(x) erfcf(x)
#define pow(x, y) powf(x, y)

/* NaN stays NaN in all of them, as in torch. */
OP max(float a, float b) { return (a > b) | (a != a) ? a : b; }
OP min(float a, float b) { return (a < b) | (a != a) ? a : b; }
OP sign(float x) { return x > 0 ? 1 : x < 0 ? -1 : x; }
OP square(float x) { return x * x; }
OP cube(float x) { return x * x * x; }
OP sigmoid(float x) { return 1 / (1 + exp(-x)); }
OP softplus(float x) { return max(x, 0) + log1p(exp(-abs(x))); }
OP logsigmoid(float x) { return -softplus(-x); }
OP softsign(float x) { return x / (1 + abs(x)); }
OP relu(float x) { return max(x, 0); }
OP elu(float x) { return where(x > 0, x, expm1(x)); }
OP selu(float x) { return 1.0507009873554805 * where(x > 0, x, 1.6732632423543772 * expm1(x)); }
OP silu(float x) { return x / (1 + exp(-x)); }
OP hard_sigmoid(float x) { return min(max(0.2 * x + 0.5, 0), 1); }
OP sinc(float x) { return where(x == 0, 1, sin(x) / x); }

/* (cos(x) - sinc(x)) / x; near 0, where that cancels, its series. */
OP sinc_slope(float x) {
    float s = x * x, near = x * (-1.0 / 3 + s * (1.0 / 30 - s * (1.0 / 840 - s / 45360)));
    return where(s < 0.25, near, (cos(x) - sin(x) / x) / x);
}

/* What a has of the gradient of max(a, b); halves of it, where they are equal. */
OP larger(float a, float b, float gradient) { return a > b ? gradient : a == b ? 0.5 * gradient : 0; }
