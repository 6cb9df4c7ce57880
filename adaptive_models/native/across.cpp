// Pairwise local attention of few groups: too few to fill a vector, whose lanes are positions here. Each thread takes
// lines of positions at a time, of whose neighbours it makes planes, one for each channel, padded by reflection.

#include "attention.h"
#include "memory.h"
#include "vectors.h"

#include <omp.h>

#include <algorithm>

namespace {

constexpr int64_t MOST_LINES = 28;  // whose planes fit in the second cache

typedef float Four __attribute__((vector_size(4 * sizeof(float))));

inline Four four(const float* from) {
    Four value;
    std::memcpy(&value, from, sizeof(value));
    return value;
}

// Channels of `count` positions, to planes `apart`.
void spread(const float* const* positions, int64_t count, int64_t channels, float* planes, int64_t apart) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        int64_t channel = 0;
        for (; channel + 4 <= channels; channel += 4) {
            const Four a = four(positions[i] + channel), b = four(positions[i + 1] + channel);
            const Four c = four(positions[i + 2] + channel), d = four(positions[i + 3] + channel);
            const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            const Four above = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            const Four beyond = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            const Four made[] = {
                __builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                __builtin_shufflevector(above, beyond, 0, 1, 4, 5), __builtin_shufflevector(above, beyond, 2, 3, 6, 7)};
            for (int64_t j = 0; j < 4; ++j) std::memcpy(planes + (channel + j) * apart + i, &made[j], sizeof(Four));
        }
        for (; channel < channels; ++channel)
            for (int64_t j = i; j < i + 4; ++j) planes[channel * apart + j] = positions[j][channel];
    }
    for (; i < count; ++i)
        for (int64_t channel = 0; channel < channels; ++channel) planes[channel * apart + i] = positions[i][channel];
}

// A vector for each of `outputs` columns of weights: inputs, a vector each, times these, and a bias or not.
template <bool BIAS, bool RELU>
inline void mix(const float* in, int64_t depth, const float* weights, int64_t stride, const float* bias,
                int64_t outputs, float* out) {
    for (int64_t first = 0; first < outputs; first += 8)
        with_count<8>(outputs - first, [&](auto together) {
            Vector sums[together];
            for (int64_t i = 0; i < together; ++i) sums[i] = BIAS ? all(bias[first + i]) : Vector{};
            for (int64_t k = 0; k < depth; ++k) {
                const Vector x = load(in + k * LANES);
                for (int64_t i = 0; i < together; ++i) sums[i] += x * all(weights[k * stride + first + i]);
            }
            for (int64_t i = 0; i < together; ++i)
                store(out + (first + i) * LANES, RELU ? larger(sums[i], Vector{}) : sums[i]);
        });
}

// What a thread makes of the neighbours of some lines of an image: planes of (lines + side - 1, width + side - 1), of
// keys, of their two position features, and of values.
struct Planes {
    int64_t across, apart;
    Room<float> floats;

    Planes(const Maps& c, const Pairwise& of, int64_t lines)
        : across(c.width + of.side - 1), apart(whole((lines + of.side - 1) * across, 4 * LANES) + LANES),
          floats((c.relation + 2 + c.values) * apart + LANES) {}

    void fill(const Maps& c, const Pairwise& of, const float* image, int64_t first, int64_t lines) const {
        const Room<const float*> maps(across), places(across);
        for (int64_t line = 0; line < lines + of.side - 1; ++line) {
            for (int64_t i = 0; i < across; ++i) {
                const int64_t there = of.padded_rows[first + line] * c.width + of.padded_columns[i];
                maps[i] = image + there * c.stride + c.relation;
                places[i] = of.key_places + 2 * there;
            }
            float* out = floats.data() + line * across;
            spread(maps.data(), across, c.relation, out, apart);
            spread(places.data(), across, 2, out + c.relation * apart, apart);
            for (int64_t i = 0; i < across; ++i) maps[i] += c.relation;
            spread(maps.data(), across, c.values, out + (c.relation + 2) * apart, apart);
        }
    }
};

// Lines of an image that a thread takes at a time: each has some of them, if images are too few.
int64_t lines_at_a_time(const Maps& c) {
    const int64_t parts = c.images ? (omp_get_num_threads() + c.images - 1) / c.images : 1;
    return std::max<int64_t>(1, std::min(MOST_LINES, (c.height + parts - 1) / parts));
}

}  // namespace

void attend_across(const Maps& c, const Pairwise& of, float* partial) {
    const int64_t depth = c.relation + 2, hidden = whole(c.relation, LANES), places = of.side * of.side;
    const int64_t shares = c.values / c.groups, reach = c.height * c.width * c.groups;
    const int64_t lines = lines_at_a_time(c), bands = (c.height + lines - 1) / lines;
    const Planes planes(c, of, lines);
    const int64_t next_share = c.groups * planes.apart;
    const float *keys = planes.floats.data(), *values = keys + depth * planes.apart;
    const Room<float> query(depth * LANES), differences(depth * LANES), activations(c.relation * LANES);
    const Room<float> weights(places * c.groups * LANES), sums(c.values * LANES);
    const Room<int64_t> offsets(places);
    for (int64_t place = 0; place < places; ++place)
        offsets[place] = place / of.side * planes.across + place % of.side;

#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < c.images * bands; ++unit) {
        const int64_t first = unit % bands * lines, end = std::min(first + lines, c.height);
        const int64_t base = unit / bands * c.height * c.width;
        planes.fill(c, of, c.maps + base * c.stride, first, end - first);
        for (int64_t y = first; y < end; ++y)
            for (int64_t done = 0; done < c.width; done += LANES) {
                // The last vector of a line begins early enough to be full, if the line is long enough for one.
                const int64_t from = std::max<int64_t>(0, std::min(done, c.width - LANES));
                const int64_t to = std::min(from + LANES, c.width), here = y * c.width + from;
                const float *positions[LANES], *position_features[LANES];
                for (int64_t i = 0; i < to - from; ++i) {
                    positions[i] = c.maps + (base + here + i) * c.stride;
                    position_features[i] = of.query_places + 2 * (here + i);
                }
                spread(positions, to - from, c.relation, query.data(), LANES);
                spread(position_features, to - from, 2, query.data() + c.relation * LANES, LANES);
                const int64_t corner = (y - first) * planes.across + from;
                for (int64_t place = 0; place < places; ++place) {
                    const float* key = keys + corner + offsets[place];
                    for (int64_t i = 0; i < depth; ++i)
                        store(differences.data() + i * LANES,
                              larger(load(query.data() + i * LANES) - load(key + i * planes.apart), Vector{}));
                    mix<true, true>(differences.data(), depth, of.first, hidden, of.bias, c.relation,
                                    activations.data());
                    mix<false, false>(activations.data(), c.relation, of.second, c.groups, nullptr, c.groups,
                                      weights.data() + place * c.groups * LANES);
                }
                for (int64_t group = 0; group < c.groups; ++group) {
                    float* w = weights.data() + group * LANES;
                    const float* near = values + group * planes.apart + corner;
                    const int64_t next = c.groups * LANES;
                    Vector most_alike = load(w), sum = Vector{};
                    for (int64_t place = 1; place < places; ++place)
                        most_alike = larger(most_alike, load(w + place * next));
                    const Vector top = most_alike * LOG2E;
                    for (int64_t place = 0; place < places; ++place) {
                        const Vector each = power_of_two(load(w + place * next) * LOG2E - top);
                        store(w + place * next, each);
                        sum += each;
                    }
                    const Vector share_of = 1.0f / sum;
                    for (int64_t share = 0; share < shares; share += 8)
                        with_count<8>(shares - share, [&](auto together) {
                            Vector aggregated[together] = {};
                            for (int64_t place = 0; place < places; ++place) {
                                const Vector weight = load(w + place * next);
                                const float* value = near + share * next_share + offsets[place];
                                for (int64_t i = 0; i < together; ++i)
                                    aggregated[i] += weight * load(value + i * next_share);
                            }
                            for (int64_t i = 0; i < together; ++i)
                                store(sums.data() + ((share + i) * c.groups + group) * LANES,
                                      larger(aggregated[i] * share_of, Vector{}));
                        });
                    if (c.attention)
                        for (int64_t place = 0; place < places; ++place) {
                            const int64_t row = y + place / of.side - of.side / 2;
                            if (row < 0 || row >= c.height) continue;
                            float* out = partial + (unit / bands * c.height + y) * reach + row * c.width * c.groups;
                            for (int64_t x = done; x < to; ++x) {
                                const int64_t column = x + place % of.side - of.side / 2;
                                if (column >= 0 && column < c.width)
                                    out[column * c.groups + group] += w[place * next + x - from] * share_of[x - from];
                            }
                        }
                }
                for (int64_t i = 0; i < to - from; ++i) {
                    float* out = c.out + (base + here + i) * c.out_stride;
                    for (int64_t channel = 0; channel < c.values; ++channel) out[channel] = sums[channel * LANES + i];
                    out[c.values] = 1.0f;
                }
            }
    }
}
