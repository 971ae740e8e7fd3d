// A vector of kLanes floats, in the compilers' own notation: what the passes are written with. It is included by each
// path's file inside of that path's namespace, after kLanes and what is in the instructions' own terms (`fused`,
// `widened_bits`, `narrowed_bits`, `load_some`, `store_some`, `with_rest`, `added_up`), so that every path gets functions of its own.
//
// No include guard: one file has one path. `some` counts the lanes that are meant, kLanes where there are more.

typedef float V __attribute__((vector_size(4 * kLanes)));
typedef int32_t I __attribute__((vector_size(4 * kLanes)));
typedef uint32_t U __attribute__((vector_size(4 * kLanes)));
typedef uint16_t H __attribute__((vector_size(2 * kLanes)));

#define INLINE inline __attribute__((always_inline))

INLINE V all(float value) { return value - V{}; }

INLINE V widened(H bits) { return (V)((U)widened_bits((HalfBits)bits) << 16); }

// To the nearest, ties to even; a NaN stays one.
INLINE H narrowed(V v) {
    const U bits = (U)v;
    const U rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    const U kept = v == v ? rounded : (bits >> 16) | 0x40;
    return (H)narrowed_bits((Bits)kept);
}

// Lanes beyond `some` are 0.
INLINE V load(const float* from, int64_t some = kLanes) {
    if (some < kLanes) return (V)load_some(from, some);
    V v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE V load(const bf16* from, int64_t some = kLanes) {
    if (some < kLanes) return widened((H)load_some(from, some));
    H bits;
    memcpy(&bits, from, sizeof bits);
    return widened(bits);
}

INLINE void store(float* to, V v, int64_t some = kLanes) {
    if (some < kLanes) {
        store_some(to, v, some);
    } else {
        memcpy(to, &v, sizeof v);
    }
}

INLINE void store(bf16* to, V v, int64_t some = kLanes) {
    const H bits = narrowed(v);
    if (some < kLanes) {
        store_some(to, (HalfBits)bits, some);
    } else {
        memcpy(to, &bits, sizeof bits);
    }
}

INLINE float number(float value) { return value; }
INLINE float number(bf16 value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float made;
    memcpy(&made, &bits, sizeof made);
    return made;
}

// A number as it is stored.
template <typename T>
INLINE T rounded(float value) {
    T lane[kLanes];
    store(lane, all(value));
    return lane[0];
}

// The larger in each lane; b where a is no number.
INLINE V larger(V a, V b) { return a > b ? a : b; }

// `rest` in the lanes beyond `some`.
INLINE V first(V v, int64_t some, float rest = 0.0F) {
    return some < kLanes ? (V)with_rest(v, some, all(rest)) : v;
}

// Of all lanes: the upper half is added to the lower one, until one is left.
INLINE float sum(V v) { return added_up(v); }

INLINE float largest(V v) {
    float lane[kLanes], most = v[0];
    memcpy(lane, &v, sizeof v);
    for (int i = 1; i < kLanes; i++) most = lane[i] > most ? lane[i] : most;
    return most;
}

// e to the x, for x up to 88; 0 or next to it below -87. To 2 units in the last place: the polynomial of Cephes' expf
// (S. Moshier, netlib), after x = n ln 2 + r.
INLINE V exponential(V x) {
    x = x < -87.33F ? all(-87.33F) : x;
    const V shifted = fused(x, all(1.44269504F), all(12582912.0F));  // n in the low bits of the mantissa
    const V n = shifted - 12582912.0F;
    V r = fused(n, all(-0.693359375F), x);
    r = fused(n, all(2.12194440e-4F), r);
    V p = fused(all(1.9875691500e-4F), r, all(1.3981999507e-3F));
    p = fused(p, r, all(8.3334519073e-3F));
    p = fused(p, r, all(4.1665795894e-2F));
    p = fused(p, r, all(1.6666665459e-1F));
    p = fused(p, r, all(5.0000001201e-1F));
    p = fused(p, r * r, r + 1.0F);
    return x != x ? x : (V)((I)p + ((I)shifted << 23));
}

// For |x| below 0.625, as Cephes' tanhf.
INLINE V small_tangent(V x) {
    const V z = x * x;
    V p = fused(all(-5.70498872745e-3F), z, all(2.06390887954e-2F));
    p = fused(p, z, all(-5.37397155531e-2F));
    p = fused(p, z, all(1.33314422036e-1F));
    p = fused(p, z, all(-3.33332819422e-1F));
    return fused(p * z, x, x);
}

INLINE V hyperbolic_tangent(V x) {
    const V size = (V)((U)x & 0x7FFFFFFF);
    const V capped = size > 10.0F ? all(10.0F) : size;
    const V far = 1.0F - 2.0F / (exponential(2.0F * capped) + 1.0F);
    const V with_sign = (V)((U)far | ((U)x & 0x80000000));
    return size < 0.625F ? small_tangent(x) : x != x ? x : with_sign;
}

// 1 / sqrt(mean square + eps) of a row of n numbers.
INLINE float norm_factor(float squares, int64_t n, float eps) {
    return 1.0F / std::sqrt(squares / static_cast<float>(n) + eps);
}
