// The hallucinator for inference: two convolutions of 3x3 with their batch norms folded in, and a convolutional LSTM
// between them. Its maps are so small that calling layer after layer takes longer than to compute them.

#include "vectors.h"

#include <vector>

namespace {

constexpr int64_t UNIT = 2 * TALL;  // positions that one thread takes at a time
constexpr int64_t SIDE = 3, GATES = 4;

}  // namespace

extern "C" {

struct Hallucinator {
    // Attention (images, channels, height, width); hidden state and cell (images, hidden, height, width), or null for
    // zeros.
    const float *attention, *state, *cell;
    int64_t images, channels, hidden, height, width;
    // (3, 3, inputs, outputs) and (outputs), outputs filled up with zeros to whole vectors: of the encoder; of the gates
    // input, forget, output and candidate, each filled up, for encoded attention and state; of the decoder.
    const float *encoder, *encoder_bias, *gates, *gates_bias, *decoder, *decoder_bias;
    // The hallucination, as the attention; the next hidden state and cell.
    float *out, *next_state, *next_cell;
};

}  // extern "C"

namespace {

// Positions of maps with zeros around them, row after row, so that the neighbours of each are equally far from it. All
// rows are one run; the last two positions of each mean nothing, and neither do those that fill up the last unit.
struct Run {
    int64_t height, width, stride, units, padded;
    Run(int64_t height, int64_t width)
        : height(height),
          width(width),
          stride(width + SIDE - 1),
          units((height * stride + UNIT - 1) / UNIT),
          padded(units * UNIT + (SIDE - 1) * (stride + 1)) {}

    // Calls a function with the position within its unit, the place in an unpadded map and that in a padded one.
    template <typename Function>
    void each(int64_t unit, const Function& function) const {
        for (int64_t i = 0; i < UNIT; ++i) {
            const int64_t position = unit * UNIT + i, row = position / stride, column = position % stride;
            if (row < height && column < width) function(i, row * width + column, position + stride + 1);
        }
    }
};

// Takes channels-last maps with zeros around them, (padded, channels), to a unit of outputs, (UNIT, outputs).
template <bool relu>
void convolve(const Run& run, const float* maps, int64_t channels, const float* weights, const float* bias,
              int64_t outputs, int64_t unit, float* out) {
    const int64_t depth = SIDE * channels;  // of a row of neighbours, which follow each other
    const auto from = [&](int64_t row) { return maps + (unit * UNIT + row * run.stride) * channels; };
    product<Onto::bias, false>(from(0), channels, depth, weights, outputs, bias, out, outputs, UNIT);
    product<Onto::sums, false>(from(1), channels, depth, weights + depth * outputs, outputs, nullptr, out, outputs, UNIT);
    product<Onto::sums, relu>(from(2), channels, depth, weights + 2 * depth * outputs, outputs, nullptr, out, outputs,
                              UNIT);
}

// The next cell and hidden state of a position, (hidden filled up), from its gates.
inline void remember(const float* gates, int64_t hidden, float* cell, float* state) {
    for (int64_t i = 0; i < hidden; i += LANES) {
        const Vector kept = sigmoid(load(gates + hidden + i)) * load(cell + i);
        const Vector next = kept + sigmoid(load(gates + i)) * tanh(load(gates + 3 * hidden + i));
        store(cell + i, next);
        store(state + i, sigmoid(load(gates + 2 * hidden + i)) * tanh(next));
    }
}

}  // namespace

extern "C" {

void foveabench_hallucinate(const Hallucinator* call) {
    const Hallucinator& c = *call;
    const Run run(c.height, c.width);
    const int64_t positions = c.height * c.width, all = c.images * run.units;
    const int64_t channels = whole(c.channels, LANES), hidden = whole(c.hidden, LANES);
    // With zeros around them, channels last: what the encoder takes, the gates, and the decoder
    std::vector<float> seen(c.images * run.padded * c.channels), felt(c.images * run.padded * 2 * c.hidden);
    std::vector<float> expected(c.images * run.padded * c.hidden);

#pragma omp parallel
    {
        std::vector<float> made(UNIT * GATES * (hidden > channels ? hidden : channels)), cell(hidden), state(hidden);

#pragma omp for schedule(static)
        for (int64_t i = 0; i < all; ++i) {
            const int64_t image = i / run.units;
            float* to = seen.data() + image * run.padded * c.channels;
            float* beside = felt.data() + image * run.padded * 2 * c.hidden + c.hidden;
            run.each(i % run.units, [&](int64_t, int64_t here, int64_t there) {
                for (int64_t channel = 0; channel < c.channels; ++channel)
                    to[there * c.channels + channel] = c.attention[(image * c.channels + channel) * positions + here];
                for (int64_t channel = 0; c.state && channel < c.hidden; ++channel)
                    beside[there * 2 * c.hidden + channel] = c.state[(image * c.hidden + channel) * positions + here];
            });
        }

#pragma omp for schedule(static)
        for (int64_t i = 0; i < all; ++i) {
            const int64_t image = i / run.units, unit = i % run.units;
            const float* from = seen.data() + image * run.padded * c.channels;
            float* to = felt.data() + image * run.padded * 2 * c.hidden;
            convolve<true>(run, from, c.channels, c.encoder, c.encoder_bias, hidden, unit, made.data());
            run.each(unit, [&](int64_t position, int64_t, int64_t there) {
                for (int64_t channel = 0; channel < c.hidden; ++channel)
                    to[there * 2 * c.hidden + channel] = made[position * hidden + channel];
            });
        }

#pragma omp for schedule(static)
        for (int64_t i = 0; i < all; ++i) {
            const int64_t image = i / run.units, unit = i % run.units;
            const float* from = felt.data() + image * run.padded * 2 * c.hidden;
            float* to = expected.data() + image * run.padded * c.hidden;
            convolve<false>(run, from, 2 * c.hidden, c.gates, c.gates_bias, GATES * hidden, unit, made.data());
            run.each(unit, [&](int64_t position, int64_t here, int64_t there) {
                const int64_t first = image * c.hidden * positions + here;
                for (int64_t channel = 0; channel < c.hidden; ++channel)
                    cell[channel] = c.cell ? c.cell[first + channel * positions] : 0;
                remember(made.data() + position * GATES * hidden, hidden, cell.data(), state.data());
                for (int64_t channel = 0; channel < c.hidden; ++channel) {
                    c.next_cell[first + channel * positions] = cell[channel];
                    c.next_state[first + channel * positions] = state[channel];
                    to[there * c.hidden + channel] = state[channel] < 0 ? 0 : state[channel];  // NaN stays
                }
            });
        }

#pragma omp for schedule(static)
        for (int64_t i = 0; i < all; ++i) {
            const int64_t image = i / run.units, unit = i % run.units;
            const float* from = expected.data() + image * run.padded * c.hidden;
            convolve<true>(run, from, c.hidden, c.decoder, c.decoder_bias, channels, unit, made.data());
            run.each(unit, [&](int64_t position, int64_t here, int64_t) {
                for (int64_t channel = 0; channel < c.channels; ++channel)
                    c.out[(image * c.channels + channel) * positions + here] = made[position * channels + channel];
            });
        }
    }
}

}  // extern "C"
