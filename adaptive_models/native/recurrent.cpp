// One step of a layer of a GRU for inference, and of all layers of a sampler or classifier. Of few sequences, it takes
// as long as its weights take from memory: each is read once, where it lies, and nothing is written but the result.
// Weights are floats, or 8-bit integers with scales, which are little more than a quarter of the bytes.

#include "memory.h"
#include "vectors.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif
#include <omp.h>

#include <algorithm>

namespace {

constexpr int64_t GROUP = 32;  // integers of a row that have a scale of their own
constexpr int64_t LINE = 64;   // bytes of a line of the cache
constexpr int64_t TOGETHER = 4, BESIDE = LANES == 16 ? 4 : 2;  // rows and sequences, whose sums stay in registers

}  // namespace

extern "C" {

struct GRU {
    // Inputs (sequences, inputs) and memory (sequences, hidden).
    const float *in, *memory;
    int64_t sequences, inputs, hidden;
    // As torch keeps them, for gates reset, update and new: (3 * hidden, inputs) and (3 * hidden, hidden); biases
    // (3 * hidden) or null; scales (3 * hidden, groups of a row) of weights of int8_t, null of those of float.
    const void *input_weights, *memory_weights;
    const float *input_bias, *memory_bias, *input_scales, *memory_scales;
    // The next memory (sequences, hidden).
    float *out;
};

// A GRU of layers, and a linear layer of what it gives, cut off at 0 before or not.
struct Head {
    const float* in;  // (sequences, inputs)
    int64_t sequences;
    const GRU* layers;  // of which weights and sizes are given
    int64_t count;
    const float* memory;  // (layers, sequences, hidden), or null for zeros
    int64_t rectified;
    const float *weights, *bias;  // (outputs, hidden), (outputs)
    int64_t outputs;
    float *next, *out;  // the next memory; and (sequences, outputs)
};

}  // extern "C"

namespace {

// Compilers make of the last version what takes longer than the bytes do.
inline Vector load(const int8_t* from) {
#if defined(__AVX512F__)
    constexpr __mmask16 every = 0xffff;  // without, GCC 12 warns of its own header
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm512_maskz_cvtepi32_ps(every, _mm512_maskz_cvtepi8_epi32(every, bytes));
#elif defined(__AVX2__)
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
    Vector value;
    for (int64_t i = 0; i < LANES; ++i) value[i] = from[i];
    return value;
#endif
}

// Asks memory for weights that are read soon; to wait for the processor to see it come takes a fifth longer. Of integers
// as many bytes take longer to compute with.
inline void fetch(const float* weights) { __builtin_prefetch(weights + 1024); }
inline void fetch(const int8_t* weights) { __builtin_prefetch(weights + 2048); }

// The sum of lanes, by halves: one after the other, each would wait for the last.
inline float total(Vector lanes) {
    float halves[LANES];
    store(halves, lanes);
    for (int64_t half = LANES / 2; half; half /= 2)
        for (int64_t i = 0; i < half; ++i) halves[i] += halves[i + half];
    return halves[0];
}

// Rows of weights, one after the other in memory, with their biases, or null, and scales of groups, or null.
template <typename Weight>
struct Rows {
    const Weight* weights;
    int64_t depth;
    const float *bias, *scales;

    int64_t groups() const { return (depth + GROUP - 1) / GROUP; }
    Rows from(int64_t row) const {
        return {weights + row * depth, depth, bias ? bias + row : nullptr, scales ? scales + row * groups() : nullptr};
    }
};

// `ROWS` rows times `SEQUENCES` vectors, `depth` apart as well: (rows, sequences), in rows of `sequences`.
template <int64_t ROWS, int64_t SEQUENCES>
inline void products(const Rows<float>& of, const float* in, int64_t sequences, float* out) {
    const float* const weights = of.weights;
    const int64_t depth = of.depth;
    constexpr int64_t PARTS = ROWS * SEQUENCES == 1 ? 8 : 1;  // of a sum that would wait for itself
    Vector sums[ROWS][SEQUENCES][PARTS] = {};
    const auto add = [&](int64_t here, int64_t part) {
        for (int64_t j = 0; j < SEQUENCES; ++j) {
            const Vector x = load(in + j * depth + here);
            for (int64_t i = 0; i < ROWS; ++i) sums[i][j][part] += x * load(weights + i * depth + here);
        }
    };
    int64_t k = 0;
    for (; k + PARTS * LANES <= depth; k += PARTS * LANES)
        for (int64_t part = 0; part < PARTS; ++part) {
            if (PARTS > 1 && part * LANES * sizeof(float) % LINE == 0) fetch(weights + k + part * LANES);
            add(k + part * LANES, part);
        }
    for (; k + LANES <= depth; k += LANES) add(k, 0);
    for (int64_t i = 0; i < ROWS; ++i)
        for (int64_t j = 0; j < SEQUENCES; ++j) {
            for (int64_t part = 1; part < PARTS; ++part) sums[i][j][0] += sums[i][j][part];
            float sum = of.bias ? of.bias[i] : 0;
            for (int64_t rest = k; rest < depth; ++rest) sum += weights[i * depth + rest] * in[j * depth + rest];
            out[i * sequences + j] = sum + total(sums[i][j][0]);
        }
}

template <int64_t ROWS, int64_t SEQUENCES>
inline void products(const Rows<int8_t>& of, const float* in, int64_t sequences, float* out) {
    const int64_t depth = of.depth, groups = of.groups();
    Vector sums[ROWS][SEQUENCES] = {};
    int64_t k = 0;
    for (; k + GROUP <= depth; k += GROUP) {
        if (ROWS * SEQUENCES == 1) fetch(of.weights + k);
        Vector group[ROWS][SEQUENCES] = {};
        for (int64_t here = k; here < k + GROUP; here += LANES)
            for (int64_t j = 0; j < SEQUENCES; ++j) {
                const Vector x = load(in + j * depth + here);
                for (int64_t i = 0; i < ROWS; ++i) group[i][j] += x * load(of.weights + i * depth + here);
            }
        for (int64_t i = 0; i < ROWS; ++i)
            for (int64_t j = 0; j < SEQUENCES; ++j) sums[i][j] += group[i][j] * of.scales[i * groups + k / GROUP];
    }
    for (int64_t i = 0; i < ROWS; ++i)
        for (int64_t j = 0; j < SEQUENCES; ++j) {
            float sum = 0;
            for (int64_t rest = k; rest < depth; ++rest) sum += of.weights[i * depth + rest] * in[j * depth + rest];
            if (k < depth) sum *= of.scales[i * groups + k / GROUP];
            out[i * sequences + j] = (of.bias ? sum + of.bias[i] : sum) + total(sums[i][j]);
        }
}

// The same of so many rows and all sequences. Of one sequence rows are read one by one, which memory gives faster than
// several side by side; of more it is the sequences, in the cache, that are read too often otherwise.
template <typename Weight>
void multiply(const Rows<Weight>& rows, int64_t count, const float* in, int64_t sequences, float* out) {
    int64_t i = 0;
    if (sequences > 1)
        for (; i + TOGETHER <= count; i += TOGETHER) {
            const Rows<Weight> here = rows.from(i);
            float* to = out + i * sequences;
            int64_t j = 0;
            for (; j + BESIDE <= sequences; j += BESIDE)
                products<TOGETHER, BESIDE>(here, in + j * rows.depth, sequences, to + j);
            for (; j < sequences; ++j) products<TOGETHER, 1>(here, in + j * rows.depth, sequences, to + j);
        }
    for (; i < count; ++i)
        for (int64_t j = 0; j < sequences; ++j)
            products<1, 1>(rows.from(i), in + j * rows.depth, sequences, out + i * sequences + j);
}

template <typename Weight>
void step(const GRU& c) {
    const int64_t gates = 3 * c.hidden;
    const Rows<Weight> of_inputs{static_cast<const Weight*>(c.input_weights), c.inputs, c.input_bias, c.input_scales};
    const Rows<Weight> of_hidden{static_cast<const Weight*>(c.memory_weights), c.hidden, c.memory_bias,
                                 c.memory_scales};
    const Room<float> sums(2 * gates * c.sequences + LANES);  // (gates, sequences), of each product
    float *of_input = sums.data(), *of_memory = of_input + gates * c.sequences;
#pragma omp parallel
    {
        // Memory gives each thread one long run of rows the fastest.
        const int64_t share = whole((gates + omp_get_num_threads() - 1) / omp_get_num_threads(), TOGETHER);
        const int64_t first = std::min(gates, omp_get_thread_num() * share), count = std::min(gates - first, share);
        multiply(of_inputs.from(first), count, c.in, c.sequences, of_input + first * c.sequences);
        multiply(of_hidden.from(first), count, c.memory, c.sequences, of_memory + first * c.sequences);
#pragma omp barrier
        const int64_t cells = c.hidden * c.sequences;
#pragma omp for schedule(static)
        for (int64_t at = 0; at < cells; at += LANES) {
            const auto gate = [&](const float* of, int64_t number) { return load(of + number * cells + at); };
            const Vector reset = sigmoid(gate(of_input, 0) + gate(of_memory, 0));
            float updates[LANES], candidates[LANES];
            store(updates, sigmoid(gate(of_input, 1) + gate(of_memory, 1)));
            store(candidates, tanh(gate(of_input, 2) + reset * gate(of_memory, 2)));
            for (int64_t i = 0; i < std::min(LANES, cells - at); ++i) {
                const int64_t unit = (at + i) / c.sequences, here = (at + i) % c.sequences * c.hidden + unit;
                c.out[here] = candidates[i] + updates[i] * (c.memory[here] - candidates[i]);
            }
        }
    }
}

}  // namespace

extern "C" {

void foveabench_gru(const GRU* call) { call->input_scales ? step<int8_t>(*call) : step<float>(*call); }

void foveabench_head(const Head* call) {
    const Head& c = *call;
    const int64_t hidden = c.layers->hidden, size = c.sequences * hidden;
    const Room<float> zeros(size), last(size), scores(c.sequences * c.outputs);
    std::fill_n(zeros.data(), size, 0.0f);
    const float* in = c.in;
    for (int64_t i = 0; i < c.count; ++i) {
        GRU layer = c.layers[i];
        layer.in = in, layer.sequences = c.sequences;
        layer.memory = c.memory ? c.memory + i * size : zeros.data();
        layer.out = c.next + i * size;
        foveabench_gru(&layer);
        in = layer.out;
    }
    for (int64_t i = 0; i < size; ++i) last[i] = c.rectified && in[i] < 0 ? 0 : in[i];
    multiply(Rows<float>{c.weights, hidden, c.bias, nullptr}, c.outputs, last.data(), c.sequences, scores.data());
    for (int64_t i = 0; i < c.sequences; ++i)
        for (int64_t output = 0; output < c.outputs; ++output)
            c.out[i * c.outputs + output] = scores[output * c.sequences + i];
}

}  // extern "C"
