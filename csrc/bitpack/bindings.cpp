#include "../bindings.hpp"

#include "bitpack.hpp"

namespace golf {
namespace {

using bitpack::Path;

pybind11::list path_names() { return names_of(bitpack::paths()); }

// The fastest path, or the named one.
const Path& path_called(const std::string& name) { return path_of(bitpack::paths(), "bitpack", name); }

bitpack::Float float_of(bool bfloat16) { return bfloat16 ? bitpack::Float::bfloat16 : bitpack::Float::float32; }

bool pack(uintptr_t values, int64_t n, int bits, uintptr_t planes, const std::string& path) {
    return bitpack::pack(path_called(path), at<const int8_t>(values), n, bits, at<uint8_t>(planes));
}

void unpack(uintptr_t planes, int64_t n, int bits, uintptr_t values, const std::string& path) {
    bitpack::unpack(path_called(path), at<const uint8_t>(planes), n, bits, at<int8_t>(values));
}

void unpack_dequantize(uintptr_t planes, uintptr_t scales, int64_t rows, int64_t cols, int bits, bool bfloat16,
                       uintptr_t out, const std::string& path) {
    bitpack::unpack_dequantize(path_called(path), at<const uint8_t>(planes), at<const uint16_t>(scales), rows, cols,
                               bits, float_of(bfloat16), at<void>(out));
}

void quantize_pack(uintptr_t weights, int64_t rows, int64_t cols, int bits, bool floored, uintptr_t planes,
                   uintptr_t scales, const std::string& path) {
    bitpack::quantize_pack(path_called(path), at<const float>(weights), rows, cols, bits, floored, at<uint8_t>(planes),
                           at<uint16_t>(scales));
}

#ifdef GOLF_CUDA
int pack_cuda(uintptr_t values, int64_t n, int bits, uintptr_t planes, uintptr_t out_of_range, uintptr_t stream) {
    return bitpack::cuda::pack(at<const int8_t>(values), n, bits, at<uint8_t>(planes), at<int32_t>(out_of_range),
                               at<void>(stream));
}

int unpack_cuda(uintptr_t planes, int64_t n, int bits, uintptr_t values, uintptr_t stream) {
    return bitpack::cuda::unpack(at<const uint8_t>(planes), n, bits, at<int8_t>(values), at<void>(stream));
}

int unpack_dequantize_cuda(uintptr_t planes, uintptr_t scales, int64_t rows, int64_t cols, int bits, bool bfloat16,
                           uintptr_t out, uintptr_t stream) {
    return bitpack::cuda::unpack_dequantize(at<const uint8_t>(planes), at<const uint16_t>(scales), rows, cols, bits,
                                            float_of(bfloat16), at<void>(out), at<void>(stream));
}

int quantize_pack_cuda(uintptr_t weights, int64_t rows, int64_t cols, int bits, bool floored, uintptr_t planes,
                       uintptr_t scales, uintptr_t stream) {
    return bitpack::cuda::quantize_pack(at<const float>(weights), rows, cols, bits, floored, at<uint8_t>(planes),
                                        at<uint16_t>(scales), at<void>(stream));
}
#endif

}  // namespace

void bind_bitpack(pybind11::module_& module) {
    namespace py = pybind11;
    using release = py::call_guard<py::gil_scoped_release>;
    using py::arg;
    module.def("bitpack_paths", &path_names, "Instruction sets that this CPU can run, slowest first.");
    module.def("bitpack_pack", &pack, release(), arg("values"), arg("n"), arg("bits"), arg("planes"), arg("path") = "",
               "False if a value was out of range.");
    module.def("bitpack_unpack", &unpack, release(), arg("planes"), arg("n"), arg("bits"), arg("values"),
               arg("path") = "");
    module.def("bitpack_unpack_dequantize", &unpack_dequantize, release(), arg("planes"), arg("scales"), arg("rows"),
               arg("cols"), arg("bits"), arg("bfloat16"), arg("out"), arg("path") = "");
    module.def("bitpack_quantize_pack", &quantize_pack, release(), arg("weights"), arg("rows"), arg("cols"),
               arg("bits"), arg("floored"), arg("planes"), arg("scales"), arg("path") = "");
#ifdef GOLF_CUDA
    module.def("bitpack_pack_cuda", &pack_cuda, release(), arg("values"), arg("n"), arg("bits"), arg("planes"),
               arg("out_of_range"), arg("stream"));
    module.def("bitpack_unpack_cuda", &unpack_cuda, release(), arg("planes"), arg("n"), arg("bits"), arg("values"),
               arg("stream"));
    module.def("bitpack_unpack_dequantize_cuda", &unpack_dequantize_cuda, release(), arg("planes"), arg("scales"),
               arg("rows"), arg("cols"), arg("bits"), arg("bfloat16"), arg("out"), arg("stream"));
    module.def("bitpack_quantize_pack_cuda", &quantize_pack_cuda, release(), arg("weights"), arg("rows"), arg("cols"),
               arg("bits"), arg("floored"), arg("planes"), arg("scales"), arg("stream"));
#endif
}

}  // namespace golf
