// Passes over activations on the CPU, each of them one read and one write of what it works on. Matrix products stay with
// the caller's library.
//
// Numbers are float32 or bfloat16 in memory and float32 in between; rows are contiguous. Sums over rows are made of
// parts that depend on the sizes only, so that no result depends on the number of threads. A pointer that may be null
// says so.
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
    const float* scales;  // what each row's derivative is multiplied with; or null
    float* losses;        // NaN for a target outside of the vocabulary
    int64_t vocabulary;
    float softcap;
    bool gradient;
};

// The beginning of a block (golf_fast/ops/residual_mix): rows of `width`, `shares` [2, width].
template <typename T>
struct Mix {
    const T *x, *x0, *shares;
    const T *branch, *skip, *skip_weight;  // or null
    T* stream;                             // or null, where nothing is added to x
    T *mixed, *normed;
    float* factors;  // of the norm, one a row
    int64_t width;
    float eps;
};

template <typename T>
struct MixGradient {
    const T *d_mixed, *d_normed;
    const T* d_out;  // or null
    const T *stream, *x0, *shares;
    const float* factors;
    const T *skip, *skip_weight;  // or null
    T *d_stream, *d_x0;
    T* d_skip;  // or null
    int64_t width;
};

// out += residual, and the factor of the norm of that (golf_fast/ops/linear_residual).
template <typename T>
struct Add {
    const T* residual;
    T* out;
    float* factors;
    int64_t width;
    float eps;
};

template <typename T>
struct AddGradient {
    const T* grad;  // of out; or null
    const T* out;
    const float *factors, *d_factors;
    T* d_out;
    int64_t width;
};

// RMS norm of rows without a gain (golf_fast/ops/rms_norm).
template <typename T>
struct Norm {
    const T* x;
    T* out;
    float* factors;
    int64_t width;
    float eps;
};

template <typename T>
struct NormGradient {
    const T *grad, *x;
    const float* factors;
    T* d_x;
    int64_t width;
};

// post = max(p, slope p)^2 of p = factor * pre (golf_fast/ops/relu2_mlp).
template <typename T>
struct Activation {
    const T* pre;
    T* post;
    const float* factors;  // one a row; or null
    int64_t hidden;
    float slope;
};

// From the gradient of post that of pre, in its place.
template <typename T>
struct ActivationGradient {
    T* grad;
    const T* pre;
    const float* factors;  // or null
    int64_t hidden;
    float slope;
};

// The gradient of the factors of (factor * x): sum(d_x * x) / factor.
template <typename T>
struct FactorGradient {
    const T *d_x, *x;
    const float* factors;
    float* d_factors;
    int64_t width;
};

// [batch, positions, heads, head_dim] in memory with these strides, in elements; that of head_dim is 1.
template <typename T>
struct Heads {
    T* data;
    int64_t batch, position, head;
};

// Norm, rotation and gain of heads (golf_fast/ops/qk_norm_rope). A row is a position of the batch.
template <typename T>
struct Turn {
    Heads<const T> from;
    Heads<T> to;
    const T *cosines, *sines;  // [positions, pairs]
    const T* gains;            // [heads]; or null
    int64_t positions, heads, head_dim, pairs;
    float eps;
};

template <typename T>
struct TurnGradient {
    Heads<const T> grad, x;
    Heads<T> d_x;
    const T *cosines, *sines;
    const T* gains;  // or null
    int64_t positions, heads, head_dim, pairs;
    float eps;
};

template <typename T>
struct Copy {
    Heads<const T> from;
    Heads<T> to;
    int64_t positions, heads, head_dim;
};

// sigmoid(gate) * (y - (y . n) n), n = v / max(|v|, smallest) (golf_fast/ops/exclusive_gate). A row is a position of the
// batch; `group` heads share a value, which has no data where nothing is taken away.
template <typename T>
struct Exclude {
    const T* y;  // [rows, kv_heads * group, head_dim]
    Heads<const T> v;
    const T* gate;  // [rows, kv_heads * group]; or null
    T* out;
    int64_t positions, kv_heads, group, head_dim;
    float smallest;
};

template <typename T>
struct ExcludeGradient {
    const T *grad, *y;
    Heads<const T> v;
    const T* gate;  // or null
    T *d_y, *d_v, *d_gate;  // contiguous; the last two null where v has no data and gate is null
    int64_t positions, kv_heads, group, head_dim;
    float smallest;
};

// kept[i] * stream + shares[i, 0] * attended + shares[i, 1] * hidden for two streams (golf_fast/ops/lane_mix): rows of
// `width`, `kept` [2, width], `shares` [2, 2].
template <typename T>
struct Lanes {
    const T *first, *second, *attended, *hidden, *kept, *shares;
    T *one, *two;
    int64_t width;
};

template <typename T>
struct LanesGradient {
    const T *d_one, *d_two, *first, *second, *attended, *hidden, *kept, *shares;
    T *d_first, *d_second, *d_attended, *d_hidden;
    int64_t width;
};

// x[i] + share * sigmoid(gate . x[i][:channels]) * x[i-1] (golf_fast/ops/gated_smear). A row is a position of the batch;
// to the first one, and where `begins`, nothing is added, and its opening is 0.
template <typename T>
struct Smear {
    const T *x, *gate, *share;
    const uint8_t* begins;  // or null
    T* out;
    float* openings;  // the sigmoids, one a row
    int64_t positions, width, channels;
};

template <typename T>
struct SmearGradient {
    const T *grad, *x, *gate, *share;
    const float* openings;
    T* d_x;
    int64_t positions, width, channels;
};

// Causal softmax of scale * scores in their place (golf_fast/ops/window_attention). `scores` is [matrices, rows, keys];
// row r of a matrix is position r / group, which has `before` keys before that of the first position, and sees from
// `lows` (or 0) to itself; matrix m has those of m % folds. Invisible keys become 0, whatever was there.
template <typename T>
struct Scores {
    T* scores;
    const int32_t* lows;  // [folds, rows / group]; or null
    int64_t rows, keys, group, before, folds;
    float scale;
};

// From the gradient of the shares that of the scores, in its place.
template <typename T>
struct ScoresGradient {
    T* grad;
    const T* shares;
    const int32_t* lows;  // or null
    int64_t rows, keys, group, before, folds;
    float scale;
};

// The passes for one type of number, over the rows from `begin` to before `end`. `part` takes what is summed over these
// rows: of the shares and the skip's weight [2 or 3, width], of the gains [heads] (or null), of what two streams keep and
// the shares of both outputs [2 * width + 4], of a gate's channels and the share [channels + 1].
template <typename T>
struct Passes {
    void (*head)(const Head<T>& head, int64_t begin, int64_t end);
    void (*mix)(const Mix<T>& mix, int64_t begin, int64_t end);
    void (*mix_gradient)(const MixGradient<T>& mix, int64_t begin, int64_t end, float* part);
    void (*add)(const Add<T>& add, int64_t begin, int64_t end);
    void (*add_gradient)(const AddGradient<T>& add, int64_t begin, int64_t end);
    void (*norm)(const Norm<T>& norm, int64_t begin, int64_t end);
    void (*norm_gradient)(const NormGradient<T>& norm, int64_t begin, int64_t end);
    void (*activate)(const Activation<T>& mlp, int64_t begin, int64_t end);
    void (*activate_gradient)(const ActivationGradient<T>& mlp, int64_t begin, int64_t end);
    void (*factor_gradient)(const FactorGradient<T>& mlp, int64_t begin, int64_t end);
    void (*turn)(const Turn<T>& turn, int64_t begin, int64_t end);
    void (*turn_gradient)(const TurnGradient<T>& turn, int64_t begin, int64_t end, float* part);
    void (*copy)(const Copy<T>& copy, int64_t begin, int64_t end);
    void (*exclude)(const Exclude<T>& heads, int64_t begin, int64_t end);
    void (*exclude_gradient)(const ExcludeGradient<T>& heads, int64_t begin, int64_t end);
    void (*lanes)(const Lanes<T>& lanes, int64_t begin, int64_t end);
    void (*lanes_gradient)(const LanesGradient<T>& lanes, int64_t begin, int64_t end, float* part);
    void (*smear)(const Smear<T>& smear, int64_t begin, int64_t end);
    void (*smear_gradient)(const SmearGradient<T>& smear, int64_t begin, int64_t end, float* part);
    void (*softmax)(const Scores<T>& scores, int64_t begin, int64_t end);
    void (*softmax_gradient)(const ScoresGradient<T>& scores, int64_t begin, int64_t end);
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
