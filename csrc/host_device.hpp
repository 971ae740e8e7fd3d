// Functions that the C++ path and the CUDA kernels share.
#pragma once

#ifdef __CUDACC__
#define GOLF_HOST_DEVICE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
// Inlined without fail, so that a function compiled for AVX-512 gets an AVX-512 body of it, and no other one can.
#define GOLF_HOST_DEVICE inline __attribute__((always_inline))
#else
#define GOLF_HOST_DEVICE inline
#endif
