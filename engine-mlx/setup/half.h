// Stands in for mlx/c/half.h, which knows 16-bit floats on ARM only and so leaves their functions
// out on x86-64; and for bindgen everywhere, since clang cannot read the ARM headers of GCC. The
// functions take them by pointer alone, so 16 bits without a meaning will do.
#define MLX_HALF_H
#define HAS_FLOAT16
#define HAS_BFLOAT16
#include <stdint.h>
typedef uint16_t float16_t;
typedef uint16_t bfloat16_t;
