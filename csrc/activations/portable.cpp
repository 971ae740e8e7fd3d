// The path for any CPU: four floats to a vector, which SSE2 and NEON have registers for.
#include "includes.hpp"

namespace golf::activations {
namespace portable {

constexpr int kLanes = 4;
typedef float Floats __attribute__((vector_size(16)));
typedef uint32_t Bits __attribute__((vector_size(16)));
typedef uint16_t HalfBits __attribute__((vector_size(8)));

// a * b + c, rounded twice.
static inline __attribute__((always_inline)) Floats fused(Floats a, Floats b, Floats c) { return a * b + c; }
static inline __attribute__((always_inline)) Bits widened_bits(HalfBits bits) {
    return __builtin_convertvector(bits, Bits);
}
static inline __attribute__((always_inline)) HalfBits narrowed_bits(Bits bits) {
    return __builtin_convertvector(bits, HalfBits);
}
static inline __attribute__((always_inline)) float added_up(Floats v) { return (v[0] + v[2]) + (v[1] + v[3]); }
typedef Floats Some;
#include "some.hpp"
//
#include "vector.hpp"
//
#include "head.hpp"
//
#include "heads.hpp"
//
#include "exclusive.hpp"
//
#include "hidden.hpp"
//
#include "lanes.hpp"
//
#include "scores.hpp"
//
#include "stream.hpp"
//
#include "path.hpp"

}  // namespace portable

const Path kPortable = {"portable", portable::passes<float>(), portable::passes<bf16>()};

}  // namespace golf::activations
