// One step of a layer of a GRU for inference. Of few sequences, it takes as long as its weights take from memory: each
// is read once, where it lies, and nothing is written but the result.

#include "vectors.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

namespace {

// Rows begin where they will in lines of the cache: longer vectors would come from two of them each.
constexpr int64_t SHORT = LANES < 8 ? LANES : 8;
typedef float Short __attribute__((vector_size(SHORT * sizeof(float))));

constexpr int64_t TOGETHER = 4, BESIDE = LANES == 16 ? 4 : 2;  // rows and sequences, whose sums stay in registers

}  // namespace

extern "C" {

struct GRU {
    // Inputs (sequences, inputs) and memory (sequences, hidden).
    const float *in, *memory;
    int64_t sequences, inputs, hidden;
    // As torch keeps them, for gates reset, update and new: (3 * hidden, inputs) and (3 * hidden, hidden); biases
    // (3 * hidden) or null.
    const float *input_weights, *memory_weights, *input_bias, *memory_bias;
    // The next memory (sequences, hidden).
    float *out;
};

}  // extern "C"

namespace {

template <typename V>
inline V read(const float* from) {
    V value;
    std::memcpy(&value, from, sizeof(V));
    return value;
}

// The sum of lanes, by halves: one after the other, each would wait for the last.
template <typename V>
inline float total(V lanes) {
    float halves[sizeof(V) / sizeof(float)];
    std::memcpy(halves, &lanes, sizeof(V));
    for (int64_t half = sizeof(V) / sizeof(float) / 2; half; half /= 2)
        for (int64_t i = 0; i < half; ++i) halves[i] += halves[i + half];
    return halves[0];
}

// `ROWS` rows of weights, one after the other in memory, times `SEQUENCES` vectors, `depth` apart as well, plus biases:
// (rows, sequences), in rows of `sequences`.
template <typename V, int64_t ROWS, int64_t SEQUENCES>
inline void products(const float* weights, const float* in, int64_t depth, const float* bias, int64_t sequences,
                     float* out) {
    constexpr int64_t LONG = sizeof(V) / sizeof(float);
    constexpr int64_t PARTS = ROWS * SEQUENCES == 1 ? 8 : 1;  // of a sum that would wait for itself
    V sums[ROWS][SEQUENCES][PARTS] = {};
    int64_t k = 0;
    for (; k + PARTS * LONG <= depth; k += PARTS * LONG)
        for (int64_t part = 0; part < PARTS; ++part) {
            const int64_t here = k + part * LONG;
            for (int64_t j = 0; j < SEQUENCES; ++j) {
                const V x = read<V>(in + j * depth + here);
                for (int64_t i = 0; i < ROWS; ++i) sums[i][j][part] += x * read<V>(weights + i * depth + here);
            }
        }
    for (int64_t i = 0; i < ROWS; ++i)
        for (int64_t j = 0; j < SEQUENCES; ++j) {
            for (int64_t part = 1; part < PARTS; ++part) sums[i][j][0] += sums[i][j][part];
            float sum = bias ? bias[i] : 0;
            for (int64_t rest = k; rest < depth; ++rest) sum += weights[i * depth + rest] * in[j * depth + rest];
            out[i * sequences + j] = sum + total(sums[i][j][0]);
        }
}

// The same of so many rows and all sequences. Of one sequence rows are read one by one, which memory gives faster than
// several side by side; of more it is the sequences, in the cache, that are read too often otherwise.
void rows(int64_t count, const float* weights, const float* in, int64_t depth, const float* bias, int64_t sequences,
          float* out) {
    int64_t i = 0;
    if (sequences > 1)
        for (; i + TOGETHER <= count; i += TOGETHER) {
            const float *w = weights + i * depth, *b = bias ? bias + i : nullptr;
            float* to = out + i * sequences;
            int64_t j = 0;
            for (; j + BESIDE <= sequences; j += BESIDE)
                products<Vector, TOGETHER, BESIDE>(w, in + j * depth, depth, b, sequences, to + j);
            for (; j < sequences; ++j) products<Vector, TOGETHER, 1>(w, in + j * depth, depth, b, sequences, to + j);
        }
    for (; i < count; ++i)
        for (int64_t j = 0; j < sequences; ++j)
            products<Short, 1, 1>(weights + i * depth, in + j * depth, depth, bias ? bias + i : nullptr, sequences,
                                  out + i * sequences + j);
}

inline float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

extern "C" {

void foveabench_gru(const GRU* call) {
    const GRU& c = *call;
    const int64_t gates = 3 * c.hidden;
    const std::unique_ptr<float[]> sums(new float[2 * gates * c.sequences]);  // (gates, sequences), of each product
    float *of_input = sums.get(), *of_memory = of_input + gates * c.sequences;
#pragma omp parallel
    {
        // Memory gives each thread one long run of rows the fastest.
        const int64_t share = whole((gates + omp_get_num_threads() - 1) / omp_get_num_threads(), TOGETHER);
        const int64_t first = std::min(gates, omp_get_thread_num() * share), count = std::min(gates - first, share);
        rows(count, c.input_weights + first * c.inputs, c.in, c.inputs, c.input_bias ? c.input_bias + first : nullptr,
             c.sequences, of_input + first * c.sequences);
        rows(count, c.memory_weights + first * c.hidden, c.memory, c.hidden,
             c.memory_bias ? c.memory_bias + first : nullptr, c.sequences, of_memory + first * c.sequences);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t unit = 0; unit < c.hidden; ++unit)
            for (int64_t sequence = 0; sequence < c.sequences; ++sequence) {
                const int64_t at = unit * c.sequences + sequence, gate = c.hidden * c.sequences;
                const float reset = sigmoid(of_input[at] + of_memory[at]);
                const float update = sigmoid(of_input[at + gate] + of_memory[at + gate]);
                const float candidate = std::tanh(of_input[at + 2 * gate] + reset * of_memory[at + 2 * gate]);
                const int64_t here = sequence * c.hidden + unit;
                c.out[here] = candidate + update * (c.memory[here] - candidate);
            }
    }
}

}  // extern "C"
