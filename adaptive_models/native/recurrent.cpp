// One step of a layer of a GRU for inference. Of few sequences, it takes as long as its weights take from memory: each
// is read once, where it lies, and nothing is written but the result.

#include "vectors.h"

#include <cmath>

namespace {

constexpr int64_t UNITS = 4;  // neighbours, whose weights lie beside each other, computed together

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

// `ROWS` rows of weights times one vector, plus biases.
template <int64_t ROWS>
inline void products(const float* weights, const float* in, int64_t depth, const float* bias, float* out) {
    Vector sums[ROWS][2] = {};
    int64_t k = 0;
    for (; k + 2 * LANES <= depth; k += 2 * LANES) {
        const Vector first = load(in + k), second = load(in + k + LANES);
        for (int64_t row = 0; row < ROWS; ++row) {
            sums[row][0] += first * load(weights + row * depth + k);
            sums[row][1] += second * load(weights + row * depth + k + LANES);
        }
    }
    for (int64_t row = 0; row < ROWS; ++row) {
        const Vector lanes = sums[row][0] + sums[row][1];
        float sum = bias ? bias[row] : 0;
        for (int64_t rest = k; rest < depth; ++rest) sum += weights[row * depth + rest] * in[rest];
        for (int64_t lane = 0; lane < LANES; ++lane) sum += lanes[lane];
        out[row] = sum;
    }
}

inline float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

// `ROWS` units of the layer, from the one numbered `unit`, for every sequence.
template <int64_t ROWS>
void units(const GRU& c, int64_t unit) {
    for (int64_t sequence = 0; sequence < c.sequences; ++sequence) {
        const float *in = c.in + sequence * c.inputs, *memory = c.memory + sequence * c.hidden;
        float of_input[3][ROWS], of_memory[3][ROWS];
        for (int64_t gate = 0; gate < 3; ++gate) {
            const int64_t row = gate * c.hidden + unit;
            products<ROWS>(c.input_weights + row * c.inputs, in, c.inputs, c.input_bias ? c.input_bias + row : nullptr,
                           of_input[gate]);
            products<ROWS>(c.memory_weights + row * c.hidden, memory, c.hidden,
                           c.memory_bias ? c.memory_bias + row : nullptr, of_memory[gate]);
        }
        for (int64_t i = 0; i < ROWS; ++i) {
            const float reset = sigmoid(of_input[0][i] + of_memory[0][i]);
            const float update = sigmoid(of_input[1][i] + of_memory[1][i]);
            const float candidate = std::tanh(of_input[2][i] + reset * of_memory[2][i]);
            c.out[sequence * c.hidden + unit + i] = candidate + update * (memory[unit + i] - candidate);
        }
    }
}

}  // namespace

extern "C" {

void foveabench_gru(const GRU* call) {
    const GRU& c = *call;
    const int64_t blocks = c.hidden / UNITS, rest = c.hidden % UNITS;
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < blocks + rest; ++block)
        if (block < blocks)
            units<UNITS>(c, block * UNITS);
        else
            units<1>(c, blocks * UNITS + block - blocks);
}

}  // extern "C"
