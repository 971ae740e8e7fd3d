// Packing and unpacking on CUDA, from the element functions of layout.hpp.
//
// A thread ("lane" of its block of 128 values) handles V neighbouring values of the first half of a block and the V values
// 64 further on, which share V bytes of the nibble plane. V is 16 bytes over the size of a value on the unpacked side, so
// that the larger traffic goes in 16-byte accesses, one next to the other, and the rest in whole sectors too.
#include <cuda_runtime.h>

#include "bitpack.hpp"
#include "layout.hpp"

namespace golf::bitpack::cuda {
namespace {

constexpr int kThreads = 256;

// V values of a byte each, four to a word.
template <int V>
struct alignas(V) Bytes {
    uint32_t word[V / 4];
};

template <int V>
__device__ __forceinline__ Bytes<V> load(const uint8_t* from) {
    return *reinterpret_cast<const Bytes<V>*>(from);
}

template <int V>
__device__ __forceinline__ void store(void* to, Bytes<V> bytes) {
    *reinterpret_cast<Bytes<V>*>(to) = bytes;
}

__device__ __forceinline__ int8_t byte_of(uint32_t word, int i) { return static_cast<int8_t>(word >> (8 * i)); }

// Where the unit of work number `unit` is: its lane in the block, its bytes of the high plane, and the slot there of its
// values of the first half of the block.
template <int Bits, int V>
struct Place {
    static constexpr int kLanes = 64 / V;                        // of a block
    static constexpr int kPeriod = high_bytes(Bits) / V;         // lanes until the same bytes of the high plane come again
    static constexpr int kHalfSlots = 64 / high_bytes(Bits);     // between the slots of values i and i + 64
    int64_t value, high;
    int lane, slot;

    __device__ __forceinline__ explicit Place(int64_t unit) {
        const int64_t block = unit / kLanes;
        lane = static_cast<int>(unit % kLanes);
        value = block * kBlock + lane * V;
        high = block * high_bytes(Bits) + lane % kPeriod * V;
        slot = lane / kPeriod;
    }
};

// Rows of a matrix, for finding the one that a value is in.
struct Rows {
    const uint16_t* scales;
    int64_t cols;

    // The row of value `at`; `left` becomes the number of values from there to the end of the row.
    __device__ __forceinline__ int64_t find(int64_t at, int64_t& left) const {
        int64_t row;
        if (((at | cols) >> 32) == 0) {  // 64-bit division is several times slower
            row = static_cast<uint32_t>(at) / static_cast<uint32_t>(cols);
        } else {
            row = at / cols;
        }
        left = (row + 1) * cols - at;
        return row;
    }

    __device__ __forceinline__ float scale(int64_t row) const { return float_from_half(scales[row]); }
};

// Takes unpacked values as int8.
struct ToInt8 {
    static constexpr int kValues = 16;
    int8_t* out;
    int64_t n;

    __device__ __forceinline__ void operator()(int64_t at, Bytes<16> q) const {
        if (at + 16 <= n) {
            store<16>(out + at, q);
        } else {
#pragma unroll
            for (int i = 0; i < 16; i++) {
                if (at + i < n) out[at + i] = byte_of(q.word[i / 4], i % 4);
            }
        }
    }
};

__device__ __forceinline__ void assign(float& out, float value) { out = value; }
__device__ __forceinline__ void assign(uint16_t& out, float value) { out = bfloat16_from_float(value); }

// Takes unpacked values times the scale of their row, as float32 (Out = float) or bfloat16 (Out = uint16_t).
template <typename Out>
struct ToScaled {
    static constexpr int kValues = 16 / sizeof(Out);
    Rows rows;
    Out* out;
    int64_t n;

    struct alignas(16) Vector {
        Out item[kValues];
    };

    __device__ __forceinline__ void operator()(int64_t at, Bytes<kValues> q) const {
        if (at >= n) return;
        int64_t left;
        int64_t row = rows.find(at, left);
        float scale = rows.scale(row);
        Vector vector;
#pragma unroll
        for (int i = 0; i < kValues; i++) {
            if (i == left && at + i < n) {
                scale = rows.scale(++row);
                left += rows.cols;
            }
            assign(vector.item[i], static_cast<float>(byte_of(q.word[i / 4], i % 4)) * scale);
        }
        if (at + kValues <= n) {
            *reinterpret_cast<Vector*>(out + at) = vector;
        } else {
#pragma unroll
            for (int i = 0; i < kValues; i++) {
                if (at + i < n) out[at + i] = vector.item[i];
            }
        }
    }
};

template <int Bits, typename Sink>
__global__ void __launch_bounds__(kThreads)
    unpack_kernel(const uint8_t* __restrict__ nibbles, const uint8_t* __restrict__ high, int64_t blocks, Sink sink) {
    constexpr int V = Sink::kValues;
    using At = Place<Bits, V>;
    const int64_t units = blocks * At::kLanes, stride = int64_t{gridDim.x} * kThreads;
    for (int64_t unit = int64_t{blockIdx.x} * kThreads + threadIdx.x; unit < units; unit += stride) {
        const At at(unit);
        const Bytes<V> nibble = load<V>(nibbles + unit * V), rest = load<V>(high + at.high);
        Bytes<V> first, second;
#pragma unroll
        for (int i = 0; i < V / 4; i++) {
            first.word[i] = to_signed<Bits>(join_planes<Bits>(nibble.word[i], 0, rest.word[i], at.slot));
            second.word[i] =
                to_signed<Bits>(join_planes<Bits>(nibble.word[i], 1, rest.word[i], at.slot + At::kHalfSlots));
        }
        sink(at.value, first);
        sink(at.value + 64, second);
    }
}

// Gives int8 values to pack, and q = 0 beyond the last.
struct FromInt8 {
    static constexpr int kValues = 16;
    const int8_t* values;
    int64_t n;

    __device__ __forceinline__ Bytes<16> operator()(int64_t at) const {
        if (at + 16 <= n) return load<16>(reinterpret_cast<const uint8_t*>(values + at));
        Bytes<16> q = {};
#pragma unroll
        for (int i = 0; i < 16; i++) {
            if (at + i < n) q.word[i / 4] |= uint32_t{static_cast<uint8_t>(values[at + i])} << (8 * (i % 4));
        }
        return q;
    }
};

// Gives weights quantized with the scale of their row, and q = 0 beyond the last.
template <int Bits>
struct FromFloat {
    static constexpr int kValues = 4;
    const float* weights;
    Rows rows;
    int64_t n;

    __device__ __forceinline__ Bytes<4> operator()(int64_t at) const {
        Bytes<4> q = {};
        if (at >= n) return q;
        float weight[4] = {};
        if (at + 4 <= n) {
            const float4 four_weights = *reinterpret_cast<const float4*>(weights + at);
            weight[0] = four_weights.x, weight[1] = four_weights.y;
            weight[2] = four_weights.z, weight[3] = four_weights.w;
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) weight[i] = at + i < n ? weights[at + i] : 0.0f;
        }
        int64_t left;
        int64_t row = rows.find(at, left);
        float scale = rows.scale(row);
        constexpr float lowest = -offset(Bits), highest = offset(Bits) - 1;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (at + i < n) {
                if (i == left) {
                    scale = rows.scale(++row);
                    left += rows.cols;
                }
                q.word[0] |= uint32_t{static_cast<uint8_t>(quantized(weight[i], scale, lowest, highest))} << (8 * i);
            }
        }
        return q;
    }
};

// Packs units first, first + stride, ... below `end`; whole warps come here together, `first` with the lane number of
// the thread. Returns whether a value was out of range.
template <int Bits, typename Source>
__device__ __forceinline__ bool pack_units(const Source& source, int64_t first, int64_t end, int64_t stride,
                                           uint8_t* nibbles, uint8_t* high) {
    constexpr int V = Source::kValues;
    using At = Place<Bits, V>;
    uint32_t seen = 0;
    for (int64_t unit = first; unit - threadIdx.x % 32 < end; unit += stride) {
        const At at(unit);
        Bytes<V> low = {}, rest = {};
        if (unit < end) {
            const Bytes<V> q0 = source(at.value), q1 = source(at.value + 64);
#pragma unroll
            for (int i = 0; i < V / 4; i++) {
                const uint32_t u0 = to_unsigned<Bits>(q0.word[i]), u1 = to_unsigned<Bits>(q1.word[i]);
                seen |= u0 | u1;
                low.word[i] = join_nibbles(u0, u1);
                rest.word[i] = high_part<Bits>(u0, at.slot) | high_part<Bits>(u1, at.slot + At::kHalfSlots);
            }
        }
        // The lanes of a block that share bytes of the high plane put their parts together; a block lies in one warp.
#pragma unroll
        for (int distance = At::kPeriod; distance < At::kLanes; distance *= 2) {
#pragma unroll
            for (int i = 0; i < V / 4; i++) rest.word[i] |= __shfl_xor_sync(0xFFFFFFFFu, rest.word[i], distance);
        }
        if (unit < end) {
            store<V>(nibbles + unit * V, low);
            if (at.lane < At::kPeriod) store<V>(high + at.high, rest);
        }
    }
    return (seen & outside(Bits)) != 0;
}

template <int Bits, typename Source>
__global__ void __launch_bounds__(kThreads)
    pack_kernel(Source source, int64_t blocks, uint8_t* nibbles, uint8_t* high, int32_t* out_of_range) {
    const int64_t units = blocks * Place<Bits, Source::kValues>::kLanes, stride = int64_t{gridDim.x} * kThreads;
    const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
    const bool bad = pack_units<Bits>(source, first, units, stride, nibbles, high);
    if (bad && out_of_range) *out_of_range = 1;
}

// The largest magnitude_bits of a row, known to thread 0.
__device__ __forceinline__ uint32_t block_absmax(const float* row, int64_t cols) {
    __shared__ uint32_t of_warp[kThreads / 32];
    uint32_t largest = 0;
    for (int64_t i = threadIdx.x; i < cols; i += kThreads) largest = max(largest, magnitude_bits(row[i]));
    largest = __reduce_max_sync(0xFFFFFFFFu, largest);
    __syncthreads();  // the row before has been read
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = largest;
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll
        for (int warp = 1; warp < kThreads / 32; warp++) largest = max(largest, of_warp[warp]);
    }
    return largest;
}

// A row at a time: its scale, and, if rows are whole blocks, its values from what the caches still hold.
template <int Bits, bool Pack>
__global__ void __launch_bounds__(kThreads)
    quantize_rows_kernel(const float* weights, int64_t rows, int64_t cols, bool floored, uint8_t* nibbles,
                         uint8_t* high, uint16_t* scales) {
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const uint32_t absmax = block_absmax(weights + row * cols, cols);
        if (threadIdx.x == 0) scales[row] = row_scale(absmax, Bits, floored);
        if (Pack) {
            __syncthreads();
            const FromFloat<Bits> source = {weights, {scales, cols}, rows * cols};
            const int64_t units = cols / kBlock * Place<Bits, FromFloat<Bits>::kValues>::kLanes;
            pack_units<Bits>(source, row * units + threadIdx.x, (row + 1) * units, kThreads, nibbles, high);
        }
    }
}

// Enough thread blocks of kThreads for `wanted`, at most what the device runs at a time.
cudaError_t grid_for(int64_t wanted, unsigned& grid) {
    int device = 0, multiprocessors = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    }
    const int64_t resident = int64_t{multiprocessors} * (2048 / kThreads);
    grid = static_cast<unsigned>(wanted < resident ? wanted : resident);
    return error;
}

// Launches a kernel on `thread_blocks`, or on fewer that go round; none is no error.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), int64_t thread_blocks, cudaStream_t stream, Arguments... arguments) {
    unsigned grid;
    const cudaError_t error = grid_for(thread_blocks, grid);
    if (error != cudaSuccess || grid == 0) return error;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(grid);
    config.blockDim = dim3(kThreads);
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, arguments...);
}

template <int Bits, int V>
int64_t thread_blocks(int64_t n) {
    return (blocks_of(n) * Place<Bits, V>::kLanes + kThreads - 1) / kThreads;
}

template <int Bits, typename Sink>
cudaError_t launch_unpack(const uint8_t* planes, int64_t n, Sink sink, cudaStream_t stream) {
    const int64_t blocks = blocks_of(n);
    return launch(unpack_kernel<Bits, Sink>, thread_blocks<Bits, Sink::kValues>(n), stream, planes,
                  planes + blocks * kNibbleBytes, blocks, sink);
}

template <int Bits, typename Source>
cudaError_t launch_pack(Source source, int64_t n, uint8_t* planes, int32_t* out_of_range, cudaStream_t stream) {
    const int64_t blocks = blocks_of(n);
    return launch(pack_kernel<Bits, Source>, thread_blocks<Bits, Source::kValues>(n), stream, source, blocks, planes,
                  planes + blocks * kNibbleBytes, out_of_range);
}

template <int Bits>
cudaError_t launch_quantize(const float* weights, int64_t rows, int64_t cols, bool floored, uint8_t* planes,
                            uint16_t* scales, cudaStream_t stream) {
    const int64_t n = rows * cols;
    uint8_t* high = planes + blocks_of(n) * kNibbleBytes;
    const bool whole_blocks = cols % kBlock == 0;
    const auto kernel = whole_blocks ? quantize_rows_kernel<Bits, true> : quantize_rows_kernel<Bits, false>;
    const cudaError_t error = launch(kernel, rows, stream, weights, rows, cols, floored, planes, high, scales);
    if (error != cudaSuccess || whole_blocks) return error;
    return launch_pack<Bits>(FromFloat<Bits>{weights, {scales, cols}, n}, n, planes, nullptr, stream);
}

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

int pack(const int8_t* values, int64_t n, int bits, uint8_t* planes, int32_t* out_of_range, void* stream) {
    const FromInt8 source = {values, n};
    return bits == 5 ? launch_pack<5>(source, n, planes, out_of_range, stream_of(stream))
                     : launch_pack<6>(source, n, planes, out_of_range, stream_of(stream));
}

int unpack(const uint8_t* planes, int64_t n, int bits, int8_t* values, void* stream) {
    const ToInt8 sink = {values, n};
    return bits == 5 ? launch_unpack<5>(planes, n, sink, stream_of(stream))
                     : launch_unpack<6>(planes, n, sink, stream_of(stream));
}

int unpack_dequantize(const uint8_t* planes, const uint16_t* scales, int64_t rows, int64_t cols, int bits, Float type,
                      void* out, void* stream) {
    const int64_t n = rows * cols;
    if (type == Float::float32) {
        const ToScaled<float> sink = {{scales, cols}, static_cast<float*>(out), n};
        return bits == 5 ? launch_unpack<5>(planes, n, sink, stream_of(stream))
                         : launch_unpack<6>(planes, n, sink, stream_of(stream));
    }
    const ToScaled<uint16_t> sink = {{scales, cols}, static_cast<uint16_t*>(out), n};
    return bits == 5 ? launch_unpack<5>(planes, n, sink, stream_of(stream))
                     : launch_unpack<6>(planes, n, sink, stream_of(stream));
}

int quantize_pack(const float* weights, int64_t rows, int64_t cols, int bits, bool floored, uint8_t* planes,
                  uint16_t* scales, void* stream) {
    return bits == 5 ? launch_quantize<5>(weights, rows, cols, floored, planes, scales, stream_of(stream))
                     : launch_quantize<6>(weights, rows, cols, floored, planes, scales, stream_of(stream));
}

}  // namespace golf::bitpack::cuda
