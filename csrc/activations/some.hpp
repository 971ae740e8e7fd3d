// Some of the lanes of a vector, fewer than all, for paths without masks; included before vector.hpp, as that is.

static inline __attribute__((always_inline)) Some load_some(const float* from, int64_t some) {
    Some v{};
    memcpy(&v, from, 4 * static_cast<size_t>(some));
    return v;
}
static inline __attribute__((always_inline)) HalfBits load_some(const bf16* from, int64_t some) {
    HalfBits bits{};
    memcpy(&bits, from, 2 * static_cast<size_t>(some));
    return bits;
}
static inline __attribute__((always_inline)) void store_some(float* to, Some v, int64_t some) {
    memcpy(to, &v, 4 * static_cast<size_t>(some));
}
static inline __attribute__((always_inline)) void store_some(bf16* to, HalfBits bits, int64_t some) {
    memcpy(to, &bits, 2 * static_cast<size_t>(some));
}
static inline __attribute__((always_inline)) Some with_rest(Some v, int64_t some, Some rest) {
    memcpy(&rest, &v, 4 * static_cast<size_t>(some));
    return rest;
}
