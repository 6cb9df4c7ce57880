// Local attention over footprints, forward and backward, for training: no copy of a footprint is made but the
// differences, which batch normalisation needs whole. Maps are contiguous float32 (N, C, H, W); `padded` ones have
// k - 1 more rows and columns. Plain C names, called through ctypes; callers check shapes.

#include <cstdint>
#include <cstring>

namespace {

struct Shape {
    int64_t height, width, side;
    int64_t positions() const { return height * width; }
    int64_t places() const { return side * side; }
    int64_t padded_width() const { return width + side - 1; }
    int64_t padded() const { return (height + side - 1) * padded_width(); }
};

// One group of one image: out[s] += weights * value[s] for the `shares` channels that lie `stride` maps apart.
void aggregate(const float* value, const float* weights, float* out, int64_t shares, int64_t stride, Shape shape) {
    const int64_t width = shape.width, positions = shape.positions(), row = shape.padded_width();
    for (int64_t share = 0; share < shares; ++share)
        std::memset(out + share * stride * positions, 0, positions * sizeof(float));
    for (int64_t y = 0; y < shape.height; ++y)
        for (int64_t place = 0; place < shape.places(); ++place) {
            const float* w = weights + place * positions + y * width;
            const int64_t from = (y + place / shape.side) * row + place % shape.side;
            for (int64_t share = 0; share < shares; ++share) {
                const float* v = value + share * stride * shape.padded() + from;
                float* o = out + share * stride * positions + y * width;
#pragma GCC ivdep
                for (int64_t x = 0; x < width; ++x) o[x] += w[x] * v[x];
            }
        }
}

void aggregate_backward(const float* grad, const float* value, const float* weights, float* grad_value,
                        float* grad_weights, int64_t shares, int64_t stride, Shape shape) {
    const int64_t width = shape.width, positions = shape.positions(), row = shape.padded_width();
    std::memset(grad_weights, 0, shape.places() * positions * sizeof(float));
    for (int64_t share = 0; share < shares; ++share)
        std::memset(grad_value + share * stride * shape.padded(), 0, shape.padded() * sizeof(float));
    for (int64_t y = 0; y < shape.height; ++y)
        for (int64_t place = 0; place < shape.places(); ++place) {
            const float* w = weights + place * positions + y * width;
            float* gw = grad_weights + place * positions + y * width;
            const int64_t from = (y + place / shape.side) * row + place % shape.side;
            for (int64_t share = 0; share < shares; ++share) {
                const float* v = value + share * stride * shape.padded() + from;
                float* gv = grad_value + share * stride * shape.padded() + from;
                const float* g = grad + share * stride * positions + y * width;
#pragma GCC ivdep
                for (int64_t x = 0; x < width; ++x) {
                    gw[x] += g[x] * v[x];
                    gv[x] += g[x] * w[x];
                }
            }
        }
}

// One channel of one image: query less the key at each place of the footprint.
void subtract(const float* query, const float* key, float* out, Shape shape) {
    const int64_t width = shape.width, row = shape.padded_width();
    for (int64_t place = 0; place < shape.places(); ++place)
        for (int64_t y = 0; y < shape.height; ++y) {
            const float* k = key + (y + place / shape.side) * row + place % shape.side;
            const float* q = query + y * width;
#pragma GCC ivdep
            for (int64_t x = 0; x < width; ++x) out[x] = q[x] - k[x];
            out += width;
        }
}

void subtract_backward(const float* grad, float* grad_query, float* grad_key, Shape shape) {
    const int64_t width = shape.width, row = shape.padded_width();
    std::memset(grad_query, 0, shape.positions() * sizeof(float));
    std::memset(grad_key, 0, shape.padded() * sizeof(float));
    for (int64_t place = 0; place < shape.places(); ++place)
        for (int64_t y = 0; y < shape.height; ++y) {
            float* k = grad_key + (y + place / shape.side) * row + place % shape.side;
            float* q = grad_query + y * width;
#pragma GCC ivdep
            for (int64_t x = 0; x < width; ++x) {
                q[x] += grad[x];
                k[x] -= grad[x];
            }
            grad += width;
        }
}

}  // namespace

extern "C" {

void foveabench_aggregate(const float* value, const float* weights, float* out, int64_t images, int64_t groups,
                          int64_t shares, int64_t height, int64_t width, int64_t side) {
    const Shape shape{height, width, side};
#pragma omp parallel for
    for (int64_t i = 0; i < images * groups; ++i) {
        const int64_t map = i / groups * groups * shares + i % groups;  // share s of group g is channel s * groups + g
        aggregate(value + map * shape.padded(), weights + i * shape.places() * shape.positions(),
                  out + map * shape.positions(), shares, groups, shape);
    }
}

void foveabench_aggregate_backward(const float* grad, const float* value, const float* weights, float* grad_value,
                                   float* grad_weights, int64_t images, int64_t groups, int64_t shares,
                                   int64_t height, int64_t width, int64_t side) {
    const Shape shape{height, width, side};
#pragma omp parallel for
    for (int64_t i = 0; i < images * groups; ++i) {
        const int64_t map = i / groups * groups * shares + i % groups;
        const int64_t footprints = i * shape.places() * shape.positions();
        aggregate_backward(grad + map * shape.positions(), value + map * shape.padded(), weights + footprints,
                           grad_value + map * shape.padded(), grad_weights + footprints, shares, groups, shape);
    }
}

void foveabench_subtract(const float* query, const float* key, float* out, int64_t maps, int64_t height, int64_t width,
                         int64_t side) {
    const Shape shape{height, width, side};
#pragma omp parallel for
    for (int64_t i = 0; i < maps; ++i)
        subtract(query + i * shape.positions(), key + i * shape.padded(),
                 out + i * shape.places() * shape.positions(), shape);
}

void foveabench_subtract_backward(const float* grad, float* grad_query, float* grad_key, int64_t maps, int64_t height,
                                  int64_t width, int64_t side) {
    const Shape shape{height, width, side};
#pragma omp parallel for
    for (int64_t i = 0; i < maps; ++i)
        subtract_backward(grad + i * shape.places() * shape.positions(), grad_query + i * shape.positions(),
                          grad_key + i * shape.padded(), shape);
}

}  // extern "C"
