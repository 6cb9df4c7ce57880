// Patchwise local attention: for a few positions at a time it runs the norm and the two 1x1 convolutions over query and
// keys, place after place of the footprint, and sums the values. Callers check shapes (see layers.py).
//
// Every place of a footprint has weights of its own, so that a neighbour that reflection repeats is computed as often
// as it is there; it is read where it lies, with no padding made.

#include "attention.h"
#include "memory.h"
#include "vectors.h"

#include <omp.h>

#include <algorithm>

namespace {

constexpr int64_t DEPTH = 256;  // inputs of a position that are in the first cache together

int64_t positions(const Maps& c) { return c.images * c.height * c.width; }

// Attention of the lines that the footprints of a line reach.
int64_t reach(const Maps& c) { return c.attention ? c.width * c.groups : 0; }

}  // namespace

int64_t room(const Maps& c, const Patchwise& weigh) { return c.images * c.height * weigh.side * reach(c); }

void attend(const Maps& c, const Patchwise& of, float* partial) {
    const int64_t places = of.side * of.side, padding = of.side / 2, all_positions = positions(c);
    const int64_t hidden = whole(c.groups, LANES), expanded = c.groups > LANES ? c.groups : LANES;
    const int64_t shares = c.values / expanded;
    const int64_t together = std::max<int64_t>(1, DEPTH / c.relation), input_stride = together * c.relation + LANES;
    // As many chunks as keep all threads busy; where attention is summed up, line by line.
    const int64_t chunks = whole((all_positions + CHUNK - 1) / CHUNK, omp_get_num_threads());
    const int64_t chunk = c.attention || !chunks ? CHUNK : whole((all_positions + chunks - 1) / chunks, TALL);
    const int64_t span = c.attention ? c.width : chunk, units = (all_positions + span - 1) / span;
    const Room<float> inputs(CHUNK * input_stride), activations(CHUNK * hidden);
    const Room<float> weights(places * CHUNK * expanded);
    const Room<const float*> sources(CHUNK * (places + 1));

#pragma omp for schedule(dynamic, 1)
    for (int64_t unit = 0; unit < units; ++unit)
        for (int64_t from = unit * span, end = std::min(from + span, all_positions); from < end; from += chunk) {
            const int64_t count = std::min(chunk, end - from), tall = whole(count, TALL);
            for (int64_t row = 0; row < count; ++row) {
                const int64_t x = (from + row) % c.width, line = (from + row) / c.width, y = line % c.height;
                const float* image = c.maps + (line - y) * c.width * c.stride;
                const float** source = sources.data() + row * (places + 1);
                *source++ = c.maps + (from + row) * c.stride;
                for (int64_t down = 0; down < of.side; ++down)
                    for (int64_t right = 0; right < of.side; ++right)
                        *source++ = image + (of.rows[y + down] * c.width + of.columns[x + right]) * c.stride +
                                    c.relation;
            }
            for (int64_t row = 0; row < tall; ++row)
                std::copy(of.bias, of.bias + hidden, activations.data() + row * hidden);
            for (int64_t item = 0; item <= places; item += together) {
                const int64_t last = std::min(item + together, places + 1);
                for (int64_t row = 0; row < count; ++row) {
                    float* input = inputs.data() + row * input_stride;
                    for (int64_t each = item; each < last; ++each, input += c.relation) {
                        const float* source = sources[row * (places + 1) + each];
                        const float *scale = of.scale + each * c.relation, *shift = of.shift + each * c.relation;
                        for (int64_t channel = 0; channel < c.relation; channel += LANES)
                            store(input + channel, larger(load(source + channel) * load(scale + channel) +
                                                              load(shift + channel),
                                                          Vector{}));
                    }
                }
                product<Onto::sums, false>(inputs.data(), input_stride, (last - item) * c.relation,
                                           of.first + item * c.relation * hidden, hidden, nullptr,
                                           activations.data(), hidden, tall);
            }
            for (int64_t i = 0; i < count * hidden; i += LANES)
                store(activations.data() + i, larger(load(activations.data() + i), Vector{}));
            for (int64_t place = 0; place < places; ++place)
                product<Onto::bias, false>(activations.data(), hidden, c.groups,
                                           of.second + place * c.groups * expanded, expanded,
                                           of.second_bias + place * expanded,
                                           weights.data() + place * CHUNK * expanded, expanded, tall);
            if (c.attention)
                for (int64_t row = 0; row < count; ++row)
                    for (int64_t place = 0; place < places; ++place) {
                        const int64_t there = (from + row) % c.width + place % of.side - padding;
                        if (there < 0 || there >= c.width) continue;
                        const float* weight = weights.data() + (place * CHUNK + row) * expanded;
                        float* sum = partial + (unit * of.side + place / of.side) * reach(c) + there * c.groups;
                        for (int64_t group = 0; group < c.groups; ++group) sum[group] += weight[group];
                    }
            for (int64_t row = 0; row < count; ++row) {
                const float* const* keys = sources.data() + row * (places + 1) + 1;
                float* out = c.out + (from + row) * c.out_stride;
                for (int64_t lane = 0; lane < expanded; lane += LANES)
                    for (int64_t share = 0; share < shares; share += 8)
                        with_count<8>(shares - share, [&](auto together) {
                            const int64_t at = lane + share * expanded;
                            Vector aggregated[together] = {};
                            for (int64_t place = 0; place < places; ++place) {
                                const Vector weight = load(weights.data() + (place * CHUNK + row) * expanded + lane);
                                const float* value = keys[place] + c.relation + at;
                                for (int64_t i = 0; i < together; ++i)
                                    aggregated[i] += weight * load(value + i * expanded);
                            }
                            for (int64_t i = 0; i < together; ++i)
                                store(out + at + i * expanded,
                                      larger(aggregated[i] + load(of.value_shift + at + i * expanded), Vector{}));
                        });
                out[c.values] = 1.0f;
            }
        }
}

void sum_up(const Maps& c, const Patchwise& of, const float* partial) {
    for (int64_t line = 0; line < c.images * c.height; ++line)
        for (int64_t down = 0; down < of.side; ++down) {
            const int64_t there = line % c.height + down - of.side / 2;
            if (there < 0 || there >= c.height) continue;
            const float* sum = partial + (line * of.side + down) * reach(c);
            float* attention = c.attention + (line - line % c.height + there) * reach(c);
            for (int64_t i = 0; i < reach(c); ++i) attention[i] += sum[i];
        }
}
