// Threads for short work, often: those of the OpenMP runtime that is in the process already (PyTorch brings one), which
// wait awake for a while. Threads of our own would take the cores from them.
#pragma once

#include <cstdint>

namespace golf::activations {

// Whether work can be shared out: an OpenMP runtime is in the process.
bool has_threads();

// work(data, part) for every part from 0 to before `parts`, on up to `threads` threads, in any order; without an OpenMP
// runtime on this one.
void share_out(int64_t parts, int threads, void (*work)(void* data, int64_t part), void* data);

template <typename Work>
void share_out(int64_t parts, int threads, Work&& work) {
    share_out(
        parts, threads, [](void* data, int64_t part) { (*static_cast<Work*>(data))(part); }, &work);
}

}  // namespace golf::activations
