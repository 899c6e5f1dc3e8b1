/* Loops over several threads, where the compiler has OpenMP; a variable ``threads`` says over how many. */
#ifdef _OPENMP
#include <omp.h>
#define PARALLEL _Pragma("omp parallel for schedule(static) num_threads((int)threads)")
#define THREAD omp_get_thread_num()
#else
#define PARALLEL
#define THREAD 0
#endif
