// Passes over activations on the CPU, each of them one read and one write of what it works on. Matrix products stay with
// the caller's library.
//
// Numbers are float32 or bfloat16 in memory and float32 in between; rows are contiguous. Sums over rows are made of
// parts that depend on the sizes only, so that no result depends on the number of threads.
#pragma once

#include <cstdint>

namespace golf::activations {

// bfloat16 as it lies in memory.
struct bf16 {
    uint16_t bits;
};

// Soft cap and cross-entropy (golf_fast/ops/softcap_cross_entropy).
template <typename T>
struct Head {
    T* logits;  // [rows, vocabulary]; with `gradient` the derivative of each row's loss takes their place
    const int64_t* targets;
    float* losses;  // NaN for a target outside of the vocabulary
    int64_t vocabulary;
    float softcap;
    bool gradient;
};

// The passes for one type of number, over the rows from `begin` to before `end`.
template <typename T>
struct Passes {
    void (*head)(const Head<T>& head, int64_t begin, int64_t end);
};

// One way to run the inner loops on this CPU.
struct Path {
    const char* name;
    Passes<float> float32;
    Passes<bf16> bfloat16;
};

extern const Path kPortable;
#if defined(__x86_64__) && !defined(GOLF_PORTABLE_ONLY)
#define GOLF_X86_64 1
extern const Path kAvx2;
extern const Path kAvx512;
#endif

// The paths that this CPU can run, slowest first, ended by nullptr.
const Path* const* paths();

}  // namespace golf::activations
