// Threads for short and frequent work: those of the OpenMP runtime that is already in the process (PyTorch loads one),
// which spin for a while before they sleep. Further threads would compete with them for the cores.
#pragma once

#include <cstdint>

namespace golf::activations {

// Whether work can be shared out: an OpenMP runtime is in the process.
bool has_threads();

// work(data, part) for every part from 0 to before `parts`, on up to `threads` threads, in any order; without an OpenMP
// runtime on this one. Throws the first exception of `work` once all threads have ended.
void share_out(int64_t parts, int threads, void (*work)(void* data, int64_t part), void* data);

template <typename Work>
void share_out(int64_t parts, int threads, Work&& work) {
    share_out(
        parts, threads, [](void* data, int64_t part) { (*static_cast<Work*>(data))(part); }, &work);
}

}  // namespace golf::activations
