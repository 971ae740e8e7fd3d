#include "../bindings.hpp"

#include "activations.hpp"
#include "threads.hpp"

namespace golf {
namespace {

using activations::bf16;
using activations::Heads;
using activations::Passes;
using activations::Path;

// Rows that a thread takes at a time, and that one part of a sum over rows is made of.
constexpr int64_t kRows = 32;

pybind11::list path_names() { return names_of(activations::paths()); }

// How a pass runs: for which numbers, on how many threads, with which instructions.
struct How {
    bool bfloat16;
    int threads;
    const std::string& path;
};

// The fastest path, or the named one.
const Path& path_called(const std::string& name) { return path_of(activations::paths(), "activations", name); }

// work(passes, begin, end, part) for all rows, without the interpreter's lock. `part` counts pieces of kRows rows.
template <typename T, typename Work>
void over_rows(const Passes<T>& passes, int64_t rows, int threads, const Work& work) {
    pybind11::gil_scoped_release release;
    activations::share_out((rows + kRows - 1) / kRows, threads, [&](int64_t part) {
        const int64_t end = (part + 1) * kRows;
        work(passes, part * kRows, end < rows ? end : rows, part);
    });
}

// make(T{}) gives the work for numbers of type T.
template <typename Make>
void run(const How& how, int64_t rows, const Make& make) {
    const Path& path = path_called(how.path);
    if (how.bfloat16) {
        over_rows(path.bfloat16, rows, how.threads, make(bf16{}));
    } else {
        over_rows(path.float32, rows, how.threads, make(float{}));
    }
}

void head(bool bfloat16, uintptr_t logits, uintptr_t targets, uintptr_t scales, uintptr_t losses, int64_t rows, int64_t vocabulary,
          float softcap, bool gradient, int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::Head<T> head{at<T>(logits),     at<const int64_t>(targets), at<const float>(scales),
                                        at<float>(losses), vocabulary,                 softcap,                 gradient};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) { passes.head(head, begin, end); };
    });
}

void mix(bool bfloat16, uintptr_t x, uintptr_t x0, uintptr_t shares, uintptr_t branch, uintptr_t skip,
         uintptr_t skip_weight, uintptr_t stream, uintptr_t mixed, uintptr_t normed, uintptr_t factors, int64_t rows,
         int64_t width, float eps, int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::Mix<T> mix{at<const T>(x),    at<const T>(x0),          at<const T>(shares), at<const T>(branch),
                                      at<const T>(skip), at<const T>(skip_weight), at<T>(stream),       at<T>(mixed),
                                      at<T>(normed),     at<float>(factors),       width,               eps};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) { passes.mix(mix, begin, end); };
    });
}

void mix_gradient(bool bfloat16, uintptr_t d_mixed, uintptr_t d_normed, uintptr_t d_out, uintptr_t stream, uintptr_t x0,
                  uintptr_t shares, uintptr_t factors, uintptr_t skip, uintptr_t skip_weight, uintptr_t d_stream,
                  uintptr_t d_x0, uintptr_t d_skip, uintptr_t parts, int64_t rows, int64_t width, int threads,
                  const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::MixGradient<T> mix{
            at<const T>(d_mixed), at<const T>(d_normed),    at<const T>(d_out),       at<const T>(stream), at<const T>(x0),
            at<const T>(shares),  at<const float>(factors), at<const T>(skip),        at<const T>(skip_weight),
            at<T>(d_stream),      at<T>(d_x0),              at<T>(d_skip),            width};
        const int64_t size = (skip ? 3 : 2) * width;
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t part) {
            passes.mix_gradient(mix, begin, end, at<float>(parts) + part * size);
        };
    });
}

void add(bool bfloat16, uintptr_t residual, uintptr_t out, uintptr_t factors, int64_t rows, int64_t width, float eps,
         int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::Add<T> add{at<const T>(residual), at<T>(out), at<float>(factors), width, eps};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) { passes.add(add, begin, end); };
    });
}

void add_gradient(bool bfloat16, uintptr_t grad, uintptr_t out, uintptr_t factors, uintptr_t d_factors, uintptr_t d_out,
                  int64_t rows, int64_t width, int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::AddGradient<T> add{at<const T>(grad),          at<const T>(out), at<const float>(factors),
                                              at<const float>(d_factors), at<T>(d_out),     width};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) {
            passes.add_gradient(add, begin, end);
        };
    });
}

void norm(bool bfloat16, uintptr_t x, uintptr_t out, uintptr_t factors, int64_t rows, int64_t width, float eps,
          int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::Norm<T> norm{at<const T>(x), at<T>(out), at<float>(factors), width, eps};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) { passes.norm(norm, begin, end); };
    });
}

void norm_gradient(bool bfloat16, uintptr_t grad, uintptr_t x, uintptr_t factors, uintptr_t d_x, int64_t rows,
                   int64_t width, int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::NormGradient<T> norm{at<const T>(grad), at<const T>(x), at<const float>(factors), at<T>(d_x),
                                                width};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) {
            passes.norm_gradient(norm, begin, end);
        };
    });
}

void activate(bool bfloat16, uintptr_t pre, uintptr_t post, uintptr_t factors, int64_t rows, int64_t hidden, float slope,
              int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::Activation<T> mlp{at<const T>(pre), at<T>(post), at<const float>(factors), hidden, slope};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) { passes.activate(mlp, begin, end); };
    });
}

void activate_gradient(bool bfloat16, uintptr_t grad, uintptr_t pre, uintptr_t factors, int64_t rows, int64_t hidden,
                       float slope, int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::ActivationGradient<T> mlp{at<T>(grad), at<const T>(pre), at<const float>(factors), hidden,
                                                     slope};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) {
            passes.activate_gradient(mlp, begin, end);
        };
    });
}

void factor_gradient(bool bfloat16, uintptr_t d_x, uintptr_t x, uintptr_t factors, uintptr_t d_factors, int64_t rows,
                     int64_t width, int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::FactorGradient<T> mlp{at<const T>(d_x), at<const T>(x), at<const float>(factors),
                                                 at<float>(d_factors), width};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) {
            passes.factor_gradient(mlp, begin, end);
        };
    });
}

// Heads as they come from Python: the address, then the strides of batch, position and head.
using View = std::tuple<uintptr_t, int64_t, int64_t, int64_t>;

template <typename T>
Heads<T> heads_of(const View& view) {
    return {at<T>(std::get<0>(view)), std::get<1>(view), std::get<2>(view), std::get<3>(view)};
}

void turn(bool bfloat16, const View& from, const View& to, uintptr_t cosines, uintptr_t sines, uintptr_t gains,
          int64_t batch, int64_t positions, int64_t heads, int64_t head_dim, int64_t pairs, float eps, int threads,
          const std::string& path) {
    run({bfloat16, threads, path}, batch * positions, [=](auto number) {
        using T = decltype(number);
        const activations::Turn<T> turn{heads_of<const T>(from), heads_of<T>(to), at<const T>(cosines),
                                        at<const T>(sines),      at<const T>(gains), positions, heads, head_dim, pairs, eps};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) { passes.turn(turn, begin, end); };
    });
}

void turn_gradient(bool bfloat16, const View& grad, const View& x, const View& d_x, uintptr_t cosines, uintptr_t sines,
                   uintptr_t gains, uintptr_t parts, int64_t batch, int64_t positions, int64_t heads, int64_t head_dim,
                   int64_t pairs, float eps, int threads, const std::string& path) {
    run({bfloat16, threads, path}, batch * positions, [=](auto number) {
        using T = decltype(number);
        const activations::TurnGradient<T> turn{
            heads_of<const T>(grad), heads_of<const T>(x), heads_of<T>(d_x), at<const T>(cosines), at<const T>(sines),
            at<const T>(gains),      positions,            heads,            head_dim,             pairs,
            eps};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t part) {
            passes.turn_gradient(turn, begin, end, parts ? at<float>(parts) + part * heads : nullptr);
        };
    });
}

void copy(bool bfloat16, const View& from, const View& to, int64_t batch, int64_t positions, int64_t heads,
          int64_t head_dim, int threads, const std::string& path) {
    run({bfloat16, threads, path}, batch * positions, [=](auto number) {
        using T = decltype(number);
        const activations::Copy<T> copy{heads_of<const T>(from), heads_of<T>(to), positions, heads, head_dim};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) { passes.copy(copy, begin, end); };
    });
}

void exclude(bool bfloat16, uintptr_t y, const View& v, uintptr_t gate, uintptr_t out, int64_t batch, int64_t positions,
             int64_t kv_heads, int64_t group, int64_t head_dim, float smallest, int threads, const std::string& path) {
    run({bfloat16, threads, path}, batch * positions, [=](auto number) {
        using T = decltype(number);
        const activations::Exclude<T> heads{at<const T>(y), heads_of<const T>(v), at<const T>(gate), at<T>(out), positions,
                                            kv_heads,       group,                head_dim,          smallest};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) { passes.exclude(heads, begin, end); };
    });
}

void exclude_gradient(bool bfloat16, uintptr_t grad, uintptr_t y, const View& v, uintptr_t gate, uintptr_t d_y,
                      uintptr_t d_v, uintptr_t d_gate, int64_t batch, int64_t positions, int64_t kv_heads, int64_t group,
                      int64_t head_dim, float smallest, int threads, const std::string& path) {
    run({bfloat16, threads, path}, batch * positions, [=](auto number) {
        using T = decltype(number);
        const activations::ExcludeGradient<T> heads{
            at<const T>(grad), at<const T>(y), heads_of<const T>(v), at<const T>(gate), at<T>(d_y), at<T>(d_v),
            at<T>(d_gate),     positions,      kv_heads,             group,             head_dim,   smallest};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) {
            passes.exclude_gradient(heads, begin, end);
        };
    });
}

void lanes(bool bfloat16, uintptr_t first, uintptr_t second, uintptr_t attended, uintptr_t hidden, uintptr_t kept,
           uintptr_t shares, uintptr_t one, uintptr_t two, int64_t rows, int64_t width, int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::Lanes<T> lanes{at<const T>(first),  at<const T>(second), at<const T>(attended),
                                          at<const T>(hidden), at<const T>(kept),   at<const T>(shares),
                                          at<T>(one),          at<T>(two),          width};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) { passes.lanes(lanes, begin, end); };
    });
}

void lanes_gradient(bool bfloat16, uintptr_t d_one, uintptr_t d_two, uintptr_t first, uintptr_t second, uintptr_t attended,
                    uintptr_t hidden, uintptr_t kept, uintptr_t shares, uintptr_t d_first, uintptr_t d_second,
                    uintptr_t d_attended, uintptr_t d_hidden, uintptr_t parts, int64_t rows, int64_t width, int threads,
                    const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::LanesGradient<T> lanes{
            at<const T>(d_one),  at<const T>(d_two), at<const T>(first),  at<const T>(second), at<const T>(attended),
            at<const T>(hidden), at<const T>(kept),  at<const T>(shares), at<T>(d_first),      at<T>(d_second),
            at<T>(d_attended),   at<T>(d_hidden),    width};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t part) {
            passes.lanes_gradient(lanes, begin, end, at<float>(parts) + part * (2 * width + 4));
        };
    });
}

void smear(bool bfloat16, uintptr_t x, uintptr_t gate, uintptr_t share, uintptr_t begins, uintptr_t out, uintptr_t openings,
           int64_t rows, int64_t positions, int64_t width, int64_t channels, int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::Smear<T> smear{at<const T>(x), at<const T>(gate),   at<const T>(share), at<const uint8_t>(begins),
                                          at<T>(out),     at<float>(openings), positions,          width,
                                          channels};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) { passes.smear(smear, begin, end); };
    });
}

void smear_gradient(bool bfloat16, uintptr_t grad, uintptr_t x, uintptr_t gate, uintptr_t share, uintptr_t openings,
                    uintptr_t d_x, uintptr_t parts, int64_t rows, int64_t positions, int64_t width, int64_t channels,
                    int threads, const std::string& path) {
    run({bfloat16, threads, path}, rows, [=](auto number) {
        using T = decltype(number);
        const activations::SmearGradient<T> smear{
            at<const T>(grad), at<const T>(x), at<const T>(gate), at<const T>(share), at<const float>(openings),
            at<T>(d_x),        positions,      width,             channels};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t part) {
            passes.smear_gradient(smear, begin, end, at<float>(parts) + part * (channels + 1));
        };
    });
}

void softmax(bool bfloat16, uintptr_t scores, uintptr_t lows, int64_t matrices, int64_t rows, int64_t keys,
             int64_t group, int64_t before, int64_t folds, float scale, int threads, const std::string& path) {
    run({bfloat16, threads, path}, matrices * rows, [=](auto number) {
        using T = decltype(number);
        const activations::Scores<T> of{at<T>(scores), at<const int32_t>(lows), rows, keys, group, before, folds, scale};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) { passes.softmax(of, begin, end); };
    });
}

void softmax_gradient(bool bfloat16, uintptr_t grad, uintptr_t shares, uintptr_t lows, int64_t matrices, int64_t rows,
                      int64_t keys, int64_t group, int64_t before, int64_t folds, float scale, int threads,
                      const std::string& path) {
    run({bfloat16, threads, path}, matrices * rows, [=](auto number) {
        using T = decltype(number);
        const activations::ScoresGradient<T> of{at<T>(grad), at<const T>(shares), at<const int32_t>(lows), rows, keys,
                                                group,       before,              folds,                   scale};
        return [=](const Passes<T>& passes, int64_t begin, int64_t end, int64_t) {
            passes.softmax_gradient(of, begin, end);
        };
    });
}

}  // namespace

void bind_activations(pybind11::module_& module) {
    module.attr("activations_version") = 5;  // another one where what a pass takes changes: golf_fast/ops/passes.py
    module.def("activations_paths", &path_names, "Instruction sets that this CPU can run, slowest first.");
    module.def("activations_has_threads", &activations::has_threads,
               "Whether passes share their rows out: an OpenMP runtime is in the process.");
    module.def("activations_parts", [](int64_t rows) { return (rows + kRows - 1) / kRows; },
               "How many parts a sum over rows comes in.");
    // The arguments of each: _C.pyi.
    module.def("softcap_cross_entropy", &head);
    module.def("residual_mix", &mix);
    module.def("residual_mix_gradient", &mix_gradient);
    module.def("linear_residual", &add);
    module.def("linear_residual_gradient", &add_gradient);
    module.def("rms_norm", &norm);
    module.def("rms_norm_gradient", &norm_gradient);
    module.def("relu2", &activate);
    module.def("relu2_gradient", &activate_gradient);
    module.def("row_factor_gradient", &factor_gradient);
    module.def("qk_norm_rope", &turn);
    module.def("qk_norm_rope_gradient", &turn_gradient);
    module.def("copy_heads", &copy);
    module.def("exclusive_gate", &exclude);
    module.def("exclusive_gate_gradient", &exclude_gradient);
    module.def("lane_mix", &lanes);
    module.def("lane_mix_gradient", &lanes_gradient);
    module.def("gated_smear", &smear);
    module.def("gated_smear_gradient", &smear_gradient);
    module.def("causal_softmax", &softmax);
    module.def("causal_softmax_gradient", &softmax_gradient);
}

}  // namespace golf
