// As much of CUDA as the kernels of csrc/ use, on a CPU: a thread of the GPU is a thread here, thread blocks run one
// after the other, and what needs the threads together waits for them. Found before the real header, it lets a C++
// compiler build a .cu file, so that sanitizers and a machine without a GPU can run it.
#pragma once

#include <barrier>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;
constexpr int cudaDevAttrMultiProcessorCount = 16;

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3(unsigned size = 1) : x(size) {}
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
};

inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}

// One multiprocessor: so that small cases make a grid go round.
inline cudaError_t cudaDeviceGetAttribute(int* value, int, int) {
    *value = 1;
    return cudaSuccess;
}

namespace emulated {

constexpr unsigned kWarp = 32;

struct Warp {
    std::barrier<> barrier{kWarp};
    uint32_t word[kWarp];
};

inline std::unique_ptr<std::barrier<>> block_barrier;
inline std::vector<std::unique_ptr<Warp>> warps;

}  // namespace emulated

inline thread_local dim3 threadIdx, blockIdx;
inline dim3 gridDim, blockDim;

inline void __syncthreads() { emulated::block_barrier->arrive_and_wait(); }

// Every lane's `value`, seen by `combine`, which is given them in the order of the lanes.
template <typename Combine>
uint32_t across_warp(uint32_t value, Combine combine) {
    emulated::Warp& warp = *emulated::warps[threadIdx.x / emulated::kWarp];
    warp.word[threadIdx.x % emulated::kWarp] = value;
    warp.barrier.arrive_and_wait();
    const uint32_t result = combine(warp.word);
    warp.barrier.arrive_and_wait();
    return result;
}

inline uint32_t __shfl_xor_sync(uint32_t, uint32_t value, int distance) {
    return across_warp(value, [&](const uint32_t* word) { return word[(threadIdx.x % emulated::kWarp) ^ distance]; });
}

inline uint32_t max(uint32_t a, uint32_t b) { return a > b ? a : b; }

inline uint32_t __reduce_max_sync(uint32_t, uint32_t value) {
    return across_warp(value, [](const uint32_t* word) {
        uint32_t largest = 0;
        for (unsigned lane = 0; lane < emulated::kWarp; lane++) largest = max(largest, word[lane]);
        return largest;
    });
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments... arguments) {
    gridDim = config->gridDim;
    blockDim = config->blockDim;
    emulated::block_barrier = std::make_unique<std::barrier<>>(blockDim.x);
    emulated::warps.clear();
    for (unsigned i = 0; i < blockDim.x; i += emulated::kWarp) emulated::warps.push_back(std::make_unique<emulated::Warp>());
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < blockDim.x; thread++) {
        threads.emplace_back([=] {
            threadIdx.x = thread;
            for (unsigned block = 0; block < gridDim.x; block++) {
                blockIdx.x = block;
                kernel(arguments...);
                __syncthreads();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    return cudaSuccess;
}
