// Compiled once per instruction set, without fused multiplication and addition: STL_RAY_ISA is the set's name and STL_RAY_VECTOR the
// number of floats in its vectors.
#include "bregman_kernels.hpp"

#include "vector.hpp"

namespace stl_ray {
namespace {

// From a cell of a colour to the other colour's cells around it.
struct Shifts {
    std::int32_t right, left, below, above;
};

inline Shifts shifts(const BregmanBoard& board, int colour) {
    const std::int32_t half = board.half;
    return colour ? Shifts{1, 0, half + 1, -half} : Shifts{0, -1, half, -half - 1};
}

// Chunk j can be swept for the nth time as soon as chunk j + 1 was for the (n - 1)th: a chunk is longer than any shift.
// So the chunks of all sweeps are done in waves, and what a wave touches stays in the first cache.
void sweep(const BregmanBoard& board, const BregmanPlane& plane, std::int32_t sweeps) {
    const std::int32_t chunks = board.chunks, halves = 2 * sweeps;
    for (std::int32_t wave = 0; wave < chunks + halves - 1; ++wave) {
        const std::int32_t first = wave < chunks ? 0 : wave - chunks + 1;
        for (std::int32_t n = first; n < halves && n <= wave; ++n) {
            const int colour = n % 2;
            const std::int32_t start = (wave - n) * board.chunk;
            const Shifts at = shifts(board, colour);
            const float *other = plane.u.of[1 - colour] + start, *scale = plane.scale.of[colour] + start;
            const float* constant = plane.constant.of[colour] + start;
            float* u = plane.u.of[colour] + start;
            for (std::int32_t i = 0; i < board.chunk; i += V) {
                const float* around = other + i;
                const Vec total = load(around + at.right) + load(around + at.left) + load(around + at.below) +
                                  load(around + at.above);
                store(u + i, total * load(scale + i) + load(constant + i));
            }
        }
    }
}

void squared_change(const BregmanBoard& board, const BregmanPlane& plane, float* __restrict__ squares) {
    const Colours &u = plane.u, &before = plane.before;
    for (std::int32_t i = 0; i < board.cells; ++i) {
        const float first = before.of[0][i] - u.of[0][i], second = before.of[1][i] - u.of[1][i];
        squares[i] = first * first + second * second;
    }
}

float sum(float* values, std::int64_t count) {
    for (; count > 1; count /= 2) {
        const std::int64_t half = count / 2;
        const float last = values[count - 1];
        const float* upper = values + half;
#pragma GCC ivdep
        for (std::int64_t i = 0; i < half; ++i) values[i] += upper[i];
        if (count % 2) values[0] += last;
    }
    return values[0];
}

// The b of a pixel's two t, by a penalty of both or by one of each.
struct Shrunk {
    float lambda;

    void operator()(Vec t0, Vec t1, Vec& b0, Vec& b1) const {
        const Vec slope = root(t0 * t0 + t1 * t1) * lambda + 1;
        b0 = t0 / slope;
        b1 = t1 / slope;
    }
};

struct Clipped {
    float largest;

    void operator()(Vec t0, Vec t1, Vec& b0, Vec& b1) const {
        b0 = clipped(t0);
        b1 = clipped(t1);
    }
    Vec clipped(Vec t) const {
        const Vec limit = Vec{} + largest, least = larger(t, -limit);
        return least < limit ? least : limit;
    }
};

// b, and d - b = t - 2 b.
template <class MULTIPLIER>
void multiply_chunk(const BregmanBoard& board, const BregmanPlane& plane, MULTIPLIER multiplier, int colour,
                    std::int32_t start, const Colours& right, const Colours& below) {
    const Shifts at = shifts(board, colour);
    for (std::int32_t i = start; i < start + board.chunk; i += V) {
        const float* other = plane.u.of[1 - colour] + i;
        const Vec u = load(plane.u.of[colour] + i);
        float *b0 = plane.b[0].of[colour] + i, *b1 = plane.b[1].of[colour] + i;
        const Vec t0 = (load(other + at.right) - u) * load(board.inside[0].of[colour] + i) + load(b0);
        const Vec t1 = (load(other + at.below) - u) * load(board.inside[1].of[colour] + i) + load(b1);
        Vec next0, next1;
        multiplier(t0, t1, next0, next1);
        store(b0, next0);
        store(b1, next1);
        store(right.of[colour] + i, t0 - 2 * next0);
        store(below.of[colour] + i, t1 - 2 * next1);
        store(plane.before.of[colour] + i, u);
    }
}

void diverge_chunk(const BregmanBoard& board, const BregmanPlane& plane, int colour, std::int32_t start,
                   const Colours& right, const Colours& below) {
    const Shifts at = shifts(board, colour);
    for (std::int32_t i = start; i < start + board.chunk; i += V) {
        const Vec along = load(right.of[1 - colour] + i + at.left) - load(right.of[colour] + i);
        const Vec divergence = along + load(below.of[1 - colour] + i + at.above) - load(below.of[colour] + i);
        store(plane.constant.of[colour] + i,
              divergence * load(plane.scale.of[colour] + i) + load(plane.data.of[colour] + i));
    }
}

template <class MULTIPLIER>
void multiply(const BregmanBoard& board, const BregmanPlane& plane, float setting, const Colours& right,
              const Colours& below) {
    const MULTIPLIER multiplier{setting};
    for (std::int32_t start = 0; start < board.chunks * board.chunk; start += board.chunk) {
        for (int c = 0; c < 2; ++c) multiply_chunk(board, plane, multiplier, c, start, right, below);
        // What lies to the left and above is in this chunk or in the one before.
        for (int c = 0; c < 2; ++c) diverge_chunk(board, plane, c, start, right, below);
    }
}

}  // namespace

#define JOINED(a, b) a##b
#define NAMED(isa) JOINED(bregman_, isa)

extern const BregmanKernels NAMED(STL_RAY_ISA);
const BregmanKernels NAMED(STL_RAY_ISA) = {sweep, squared_change, sum, multiply<Shrunk>, multiply<Clipped>};

}  // namespace stl_ray
