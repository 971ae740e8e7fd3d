#include "threads.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <exception>

namespace golf::activations {
namespace {

// The entry of GNU's OpenMP runtime, which LLVM's and Intel's have too: fn(data) on each of the threads.
using Parallel = void (*)(void (*fn)(void*), void* data, unsigned threads, unsigned flags);

Parallel parallel() {
    static const Parallel found = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
}

struct Shared {
    std::atomic<int64_t> next{0};
    int64_t parts;
    void (*work)(void*, int64_t);
    void* data;
    std::atomic<bool> failed{false};
    std::exception_ptr error;  // the first one; read after all threads have ended
};

// An exception must not leave the runtime's threads, which would end the process; the parts that are left are dropped.
void take_parts(void* argument) noexcept {
    Shared& shared = *static_cast<Shared*>(argument);
    try {
        for (int64_t part; (part = shared.next.fetch_add(1, std::memory_order_relaxed)) < shared.parts;) {
            shared.work(shared.data, part);
        }
    } catch (...) {
        shared.next.store(shared.parts, std::memory_order_relaxed);
        if (!shared.failed.exchange(true)) shared.error = std::current_exception();
    }
}

}  // namespace

bool has_threads() { return parallel() != nullptr; }

void share_out(int64_t parts, int threads, void (*work)(void*, int64_t), void* data) {
    Shared shared;
    shared.parts = parts;
    shared.work = work;
    shared.data = data;
    const int64_t wanted = std::min<int64_t>(threads, parts);
    if (wanted > 1 && parallel()) {
        parallel()(take_parts, &shared, static_cast<unsigned>(wanted), 0);
    } else {
        take_parts(&shared);
    }
    if (shared.error) std::rethrow_exception(shared.error);
}

}  // namespace golf::activations
