// Every path of bitpack, and its CUDA kernels emulated on a CPU, against loops over single values and bits. Built with
// address and undefined-behaviour sanitizers; buffers are as long as documented, to the byte.
//
// With the argument `plant` it reads one value too many, to show that the sanitizer would say so.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/bitpack/bitpack.hpp"

namespace bp = golf::bitpack;

namespace {

// Memory with an aligned start and an exact end, filled with a poison.
template <typename T>
class Buffer {
  public:
    explicit Buffer(int64_t size) : size_(size), data_(static_cast<T*>(::operator new(bytes(), std::align_val_t{64}))) {
        memset(static_cast<void*>(data_), 0xA5, bytes());
    }
    ~Buffer() { ::operator delete(data_, std::align_val_t{64}); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    T* data() { return data_; }
    T& operator[](int64_t i) { return data_[i]; }
    bool operator==(const Buffer& other) const { return size_ == other.size_ && !memcmp(data_, other.data_, bytes()); }

  private:
    size_t bytes() const { return static_cast<size_t>(size_) * sizeof(T); }
    int64_t size_;
    T* data_;
};

int64_t planes_size(int64_t n, int bits) { return (n + 127) / 128 * 16 * bits; }

void check(bool good, const char* what, const std::string& where, int bits, int64_t n) {
    if (good) return;
    fprintf(stderr, "%s: %s is wrong for int%d, n = %lld\n", where.c_str(), what, bits, static_cast<long long>(n));
    exit(1);
}

void pack_bit_by_bit(Buffer<int8_t>& values, int64_t n, int bits, Buffer<uint8_t>& planes) {
    const int64_t blocks = (n + 127) / 128;
    memset(planes.data(), 0, static_cast<size_t>(planes_size(n, bits)));
    for (int64_t i = 0; i < blocks * 128; i++) {
        const int u = (i < n ? values[i] : 0) + (1 << (bits - 1));
        uint8_t* plane = planes.data();
        for (const int width : {4, bits - 4}) {
            const int field = width == 4 ? u & 15 : u >> 4;
            const int64_t size = 16 * width, at = i % 128;
            plane[i / 128 * size + at % size] |= static_cast<uint8_t>(field << (width * (at / size)));
            plane += blocks * size;
        }
    }
}

// One implementation of the four functions.
struct Implementation {
    std::string name;
    std::function<bool(const int8_t*, int64_t, int, uint8_t*)> pack;
    std::function<void(const uint8_t*, int64_t, int, int8_t*)> unpack;
    std::function<void(const uint8_t*, const uint16_t*, int64_t, int64_t, int, bp::Float, void*)> unpack_dequantize;
    std::function<void(const float*, int64_t, int64_t, int, bool, uint8_t*, uint16_t*)> quantize_pack;
};

Implementation on_cpu(const bp::Path& path) {
    using namespace std::placeholders;
    const auto chosen = std::cref(path);
    return {path.name, std::bind(bp::pack, chosen, _1, _2, _3, _4), std::bind(bp::unpack, chosen, _1, _2, _3, _4),
            std::bind(bp::unpack_dequantize, chosen, _1, _2, _3, _4, _5, _6, _7),
            std::bind(bp::quantize_pack, chosen, _1, _2, _3, _4, _5, _6, _7)};
}

Implementation emulated_cuda() {
    using namespace std::placeholders;
    return {"cuda, emulated",
            [](const int8_t* values, int64_t n, int bits, uint8_t* planes) {
                int32_t out_of_range = 0;
                bp::cuda::pack(values, n, bits, planes, &out_of_range, nullptr);
                return out_of_range == 0;
            },
            std::bind(bp::cuda::unpack, _1, _2, _3, _4, nullptr),
            std::bind(bp::cuda::unpack_dequantize, _1, _2, _3, _4, _5, _6, _7, nullptr),
            std::bind(bp::cuda::quantize_pack, _1, _2, _3, _4, _5, _6, _7, nullptr)};
}

void run_length(const Implementation& run, int bits, int64_t n, std::mt19937& random) {
    const int half = 1 << (bits - 1);
    Buffer<int8_t> values(n), unpacked(n);
    for (int64_t i = 0; i < n; i++) values[i] = static_cast<int8_t>(static_cast<int>(random() % (2 * half)) - half);
    Buffer<uint8_t> expected(planes_size(n, bits)), planes(planes_size(n, bits));
    pack_bit_by_bit(values, n, bits, expected);
    check(run.pack(values.data(), n, bits, planes.data()), "the range check", run.name, bits, n);
    check(planes == expected, "pack", run.name, bits, n);
    run.unpack(planes.data(), n, bits, unpacked.data());
    check(unpacked == values, "unpack", run.name, bits, n);
    if (n == 0) return;
    values[random() % n] = static_cast<int8_t>(random() % 2 ? half : -half - 1);
    check(!run.pack(values.data(), n, bits, planes.data()), "the range check", run.name, bits, n);
}

float dequantized(int8_t value, uint16_t half) {
    const int exponent = half >> 10 & 31, mantissa = half & 1023;
    return static_cast<float>(value) * std::ldexp(exponent ? 1024.0f + mantissa : mantissa, exponent ? exponent - 25 : -24);
}

void run_matrix(const Implementation& run, int bits, int64_t rows, int64_t cols, std::mt19937& random) {
    const int64_t n = rows * cols;
    const float c = (1 << (bits - 1)) - 1;
    std::normal_distribution<float> normal;
    Buffer<float> weights(n), out(n);
    Buffer<uint16_t> scales(rows), narrow(n);
    Buffer<int8_t> values(n);
    Buffer<uint8_t> planes(planes_size(n, bits)), expected(planes_size(n, bits));
    for (int64_t i = 0; i < n; i++) weights[i] = normal(random) * (random() % 7 ? 0.01f : 1e-5f);
    run.quantize_pack(weights.data(), rows, cols, bits, true, planes.data(), scales.data());
    for (int64_t i = 0; i < n; i++) {
        const float step = dequantized(1, scales[i / cols]);
        values[i] = static_cast<int8_t>(std::fmax(-c - 1, std::fmin(c, std::nearbyint(weights[i] / step))));
    }
    pack_bit_by_bit(values, n, bits, expected);
    check(planes == expected, "quantize_pack", run.name, bits, n);
    run.unpack_dequantize(planes.data(), scales.data(), rows, cols, bits, bp::Float::float32, out.data());
    run.unpack_dequantize(planes.data(), scales.data(), rows, cols, bits, bp::Float::bfloat16, narrow.data());
    for (int64_t i = 0; i < n; i++) {
        const float weight = dequantized(values[i], scales[i / cols]);
        check(out[i] == weight, "unpack_dequantize", run.name, bits, n);
        const uint32_t wide = static_cast<uint32_t>(narrow[i]) << 16;
        float rounded;
        memcpy(&rounded, &wide, sizeof rounded);
        check(std::fabs(rounded - weight) <= std::fabs(weight) / 256, "unpack_dequantize to bf16", run.name, bits, n);
    }
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<Implementation> implementations;
    for (const bp::Path* const* path = bp::paths(); *path; path++) implementations.push_back(on_cpu(**path));
    if (argc > 1 && std::string(argv[1]) == "plant") {
        Buffer<int8_t> values(128);
        Buffer<uint8_t> planes(160);
        implementations[0].pack(values.data(), 129, 5, planes.data());
        return 0;
    }
    implementations.push_back(emulated_cuda());
    std::vector<int64_t> every = {128, 4097, 70001}, some = {0, 1, 127, 128, 129, 300, 4097, 70001};
    for (int64_t n = 0; n <= 300; n++) every.push_back(n);
    for (const Implementation& run : implementations) {
        std::mt19937 random(1);
        const bool threads = run.name == "cuda, emulated";  // which starts 256 of them for every call
        for (const int bits : {5, 6}) {
            for (const int64_t n : threads ? some : every) run_length(run, bits, n, random);
            for (const int64_t cols : {1, 67, 128, 640, 9001}) {
                for (const int64_t rows : {1, 11}) run_matrix(run, bits, rows, cols, random);
            }
            run_matrix(run, bits, 0, 5, random);
            run_matrix(run, bits, 5, 0, random);
        }
        printf("%s: good\n", run.name.c_str());
    }
    return 0;
}
