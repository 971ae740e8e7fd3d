#include "activations.hpp"

namespace golf::activations {

const Path* const* paths() {
#ifdef GOLF_X86_64
    __builtin_cpu_init();
    static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    static const Path* const found[] = {
        &kPortable,
        avx2 ? &kAvx2 : nullptr,
        avx512 ? &kAvx512 : nullptr,
        nullptr,
    };
#else
    static const Path* const found[] = {&kPortable, nullptr};
#endif
    return found;
}

}  // namespace golf::activations
