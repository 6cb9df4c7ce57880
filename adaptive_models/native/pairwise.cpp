// Pairwise local attention: for a few positions at a time it subtracts keys from the query, runs the two 1x1 convolutions
// over the footprint with their batch norms folded in, and the softmax, and sums the values. Callers check shapes (see
// layers.py).
//
// Where reflection repeats a neighbour, it is computed once, with its multiplicity.

#include "attention.h"
#include "memory.h"
#include "vectors.h"

#include <algorithm>

namespace {

constexpr int64_t BLOCK = 4;  // positions that share a sweep

// Attention of a line of positions.
int64_t reach(const Maps& c) { return c.attention ? c.height * c.width * c.groups : 0; }

// The longest list of neighbours.
int64_t most(const int64_t* starts, int64_t count) {
    int64_t found = 0;
    for (int64_t i = 0; i < count; ++i) found = std::max(found, starts[i + 1] - starts[i]);
    return found;
}

}  // namespace

int64_t room(const Maps& c, const Pairwise&) { return c.images * c.height * reach(c); }

void attend(const Maps& c, const Pairwise& of, float* partial) {
    if (c.groups % LANES) return attend_across(c, of, partial);
    const int64_t depth = c.relation + 2, hidden = whole(c.relation, LANES), shares = c.values / c.groups;
    const int64_t difference_stride = whole(depth, LANES) + LANES;
    const int64_t blocks = (c.width + BLOCK - 1) / BLOCK, apart = c.attention ? 1 : blocks;
    const int64_t neighbours = most(of.row_starts, c.height) * most(of.column_starts, c.width);
    const int64_t capacity = whole(BLOCK * neighbours, CHUNK);
    const Room<float> differences(CHUNK * difference_stride), activations(CHUNK * hidden);
    const Room<float> weights(capacity * c.groups), multiplicity(capacity);
    const Room<int64_t> source(capacity), position(capacity), direct(capacity);

#pragma omp for schedule(dynamic, 1)
    for (int64_t unit = 0; unit < c.images * c.height * apart; ++unit) {
        const int64_t line = unit / apart;
        for (int64_t block = unit % apart; block < blocks; block += apart) {
            const int64_t y = line % c.height, base = line / c.height * c.height * c.width;
            const int64_t from = block * BLOCK, to = from + BLOCK < c.width ? from + BLOCK : c.width;
            int64_t starts[BLOCK + 1], rows = 0;
            for (int64_t x = from; x < to; ++x) {
                starts[x - from] = rows;
                for (int64_t i = of.row_starts[y]; i < of.row_starts[y + 1]; ++i)
                    for (int64_t j = of.column_starts[x]; j < of.column_starts[x + 1]; ++j) {
                        source[rows] = of.rows[i] * c.width + of.columns[j];
                        position[rows] = y * c.width + x;
                        multiplicity[rows] = static_cast<float>(of.row_counts[i] * of.column_counts[j]);
                        direct[rows++] = of.row_direct[i] & of.column_direct[j];
                    }
            }
            starts[to - from] = rows;
            for (int64_t chunk = 0; chunk < rows; chunk += CHUNK) {
                const int64_t count = rows - chunk < CHUNK ? rows - chunk : CHUNK;
                for (int64_t row = 0; row < count; ++row) {
                    const int64_t here = position[chunk + row], there = source[chunk + row];
                    const float* query = c.maps + (base + here) * c.stride;
                    const float* key = c.maps + (base + there) * c.stride + c.relation;
                    float* x = differences.data() + row * difference_stride;
                    for (int64_t channel = 0; channel < c.relation; channel += LANES)
                        store(x + channel, larger(load(query + channel) - load(key + channel), Vector{}));
                    for (int64_t axis = 0; axis < 2; ++axis) {
                        const float shift = of.query_places[2 * here + axis] - of.key_places[2 * there + axis];
                        x[c.relation + axis] = shift > 0 ? shift : 0;
                    }
                }
                const int64_t tall = whole(count, TALL);
                product<Onto::bias, true>(differences.data(), difference_stride, depth, of.first, hidden, of.bias,
                                          activations.data(), hidden, tall);
                product<Onto::nothing, false>(activations.data(), hidden, c.relation, of.second, c.groups, nullptr,
                                              weights.data() + chunk * c.groups, c.groups, tall);
            }
            for (int64_t x = from; x < to; ++x) {
                const int64_t first = starts[x - from], last = starts[x - from + 1];
                float* out = c.out + (base + y * c.width + x) * c.out_stride;
                for (int64_t lane = 0; lane < c.groups; lane += LANES) {
                    float* w = weights.data() + lane;
                    Vector most_alike = load(w + first * c.groups), sum = Vector{};
                    for (int64_t row = first + 1; row < last; ++row)
                        most_alike = larger(most_alike, load(w + row * c.groups));
                    const Vector top = most_alike * LOG2E;
                    for (int64_t row = first; row < last; ++row) {
                        const Vector each = power_of_two(load(w + row * c.groups) * LOG2E - top);
                        store(w + row * c.groups, each);
                        sum += each * multiplicity[row];
                    }
                    const Vector share_of = 1.0f / sum;
                    if (c.attention) {
                        float* attention = partial + line * reach(c);
                        for (int64_t row = first; row < last; ++row)
                            if (direct[row])
                                for (int64_t group = 0; group < LANES; ++group)
                                    attention[source[row] * c.groups + lane + group] +=
                                        w[row * c.groups + group] * share_of[group];
                    }
                    for (int64_t share = 0; share < shares; share += 8)
                        with_count<8>(shares - share, [&](auto together) {
                            Vector aggregated[together] = {};
                            for (int64_t row = first; row < last; ++row) {
                                const Vector weight = load(w + row * c.groups) * multiplicity[row];
                                const float* value = c.maps + (base + source[row]) * c.stride + 2 * c.relation + lane +
                                                     share * c.groups;
                                for (int64_t i = 0; i < together; ++i)
                                    aggregated[i] += weight * load(value + i * c.groups);
                            }
                            for (int64_t i = 0; i < together; ++i)
                                store(out + lane + (share + i) * c.groups, larger(aggregated[i] * share_of, Vector{}));
                        });
                }
                out[c.values] = 1.0f;
            }
        }
    }
}

void sum_up(const Maps& c, const Pairwise&, const float* partial) {
    const int64_t size = reach(c);
    for (int64_t line = 0; line < c.images * c.height; ++line)
        for (int64_t i = 0; i < size; ++i) c.attention[line / c.height * size + i] += partial[line * size + i];
}
