// One step of a layer of a GRU for inference. Of few sequences, it takes as long as its weights take from memory: each
// is read once, where it lies, and nothing is written but the result.

#include "vectors.h"

#include <algorithm>
#include <cmath>
#include <memory>

namespace {

constexpr int64_t UNITS = 32;  // neighbours, whose weights lie beside each other, computed by one thread
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

// The sum of lanes, by halves: one after the other, each would wait for the last.
inline float total(Vector lanes) {
    float halves[LANES];
    store(halves, lanes);
    for (int64_t half = LANES / 2; half; half /= 2)
        for (int64_t i = 0; i < half; ++i) halves[i] += halves[i + half];
    return halves[0];
}

// `ROWS` rows of weights, one after the other in memory, times `SEQUENCES` vectors, `depth` apart as well, plus biases:
// (rows, sequences), in rows of `sequences`.
template <int64_t ROWS, int64_t SEQUENCES>
inline void products(const float* weights, const float* in, int64_t depth, const float* bias, int64_t sequences,
                     float* out) {
    constexpr int64_t PARTS = ROWS * SEQUENCES == 1 ? 4 : 1;  // of a sum that would wait for itself
    Vector sums[ROWS][SEQUENCES][PARTS] = {};
    int64_t k = 0;
    for (; k + PARTS * LANES <= depth; k += PARTS * LANES)
        for (int64_t part = 0; part < PARTS; ++part) {
            const int64_t here = k + part * LANES;
            for (int64_t j = 0; j < SEQUENCES; ++j) {
                const Vector x = load(in + j * depth + here);
                for (int64_t i = 0; i < ROWS; ++i) sums[i][j][part] += x * load(weights + i * depth + here);
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
                products<TOGETHER, BESIDE>(w, in + j * depth, depth, b, sequences, to + j);
            for (; j < sequences; ++j) products<TOGETHER, 1>(w, in + j * depth, depth, b, sequences, to + j);
        }
    for (; i < count; ++i)
        for (int64_t j = 0; j < sequences; ++j)
            products<1, 1>(weights + i * depth, in + j * depth, depth, bias ? bias + i : nullptr, sequences,
                           out + i * sequences + j);
}

inline float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

// Units `first` to `last` of the layer, for every sequence. `sums` has room for 2 * 3 * UNITS * sequences.
void units(const GRU& c, int64_t first, int64_t last, float* sums) {
    const int64_t count = last - first;
    float *of_input = sums, *of_memory = sums + 3 * count * c.sequences;
    for (int64_t gate = 0; gate < 3; ++gate) {
        const int64_t begin = gate * c.hidden + first, to = gate * count * c.sequences;
        rows(count, c.input_weights + begin * c.inputs, c.in, c.inputs, c.input_bias ? c.input_bias + begin : nullptr,
             c.sequences, of_input + to);
        rows(count, c.memory_weights + begin * c.hidden, c.memory, c.hidden,
             c.memory_bias ? c.memory_bias + begin : nullptr, c.sequences, of_memory + to);
    }
    const int64_t gates = count * c.sequences;
    for (int64_t i = 0; i < count; ++i)
        for (int64_t sequence = 0; sequence < c.sequences; ++sequence) {
            const float *x = of_input + i * c.sequences + sequence, *m = of_memory + i * c.sequences + sequence;
            const int64_t here = sequence * c.hidden + first + i;
            const float reset = sigmoid(x[0] + m[0]);
            const float update = sigmoid(x[gates] + m[gates]);
            const float candidate = std::tanh(x[2 * gates] + reset * m[2 * gates]);
            c.out[here] = candidate + update * (c.memory[here] - candidate);
        }
}

}  // namespace

extern "C" {

void foveabench_gru(const GRU* call) {
    const GRU& c = *call;
    const int64_t blocks = (c.hidden + UNITS - 1) / UNITS;
#pragma omp parallel
    {
        const std::unique_ptr<float[]> sums(new float[2 * 3 * UNITS * c.sequences]);
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; ++block)
            units(c, block * UNITS, std::min(c.hidden, (block + 1) * UNITS), sums.get());
    }
}

}  // extern "C"
