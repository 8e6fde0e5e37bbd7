// Screening: the filter that correlates best with the residual at every one of a list of positions. An implicit matrix
// product of patches and filters whose sums stay in registers.
#pragma once

#include "kernels.hpp"
#include "vector.hpp"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace stl_ray {
namespace {

constexpr int POSITIONS = 6;              // in a block: POSITIONS x VECTORS sums fill the registers
constexpr int VECTORS = V == 16 ? 4 : 2;  // of filters
constexpr int BLOCK = VECTORS * V;

struct Patches {
    std::int32_t columns[POSITIONS];  // offset of the left edge
    const std::int32_t* rows[POSITIONS];
};

struct Full {
    static void correlate(const Packed& d, const Plane& image, const Patches& at, int first,
                          Vec (&sums)[POSITIONS][VECTORS]) {
        const float* filters = d.transposed + first;
        for (int s = 0; s < d.side; ++s) {
            const float* r[POSITIONS];
            for (int p = 0; p < POSITIONS; ++p) r[p] = image.data + at.columns[p] + at.rows[p][s];
            for (int t = 0; t < d.run; ++t, filters += d.lanes) {
                Vec f[VECTORS];
                for (int v = 0; v < VECTORS; ++v) f[v] = load(filters + v * V);
                for (int p = 0; p < POSITIONS; ++p)
                    for (int v = 0; v < VECTORS; ++v) sums[p][v] += f[v] * r[p][t];
            }
        }
    }
};

#ifdef __AVX512BF16__

// Both factors are rounded to 8 significant bits: a product is off by at most 2^-7 + 2^-16 of itself.
constexpr float COARSE_ERROR = 0.0079f;

struct Coarse {
    static void correlate(const Packed& d, const Plane& image, const Patches& at, int first,
                          Vec (&sums)[POSITIONS][VECTORS]) {
        const std::uint16_t* filters = d.coarse + 2 * first;
        for (int s = 0; s < d.side; ++s) {
            const std::uint16_t* r[POSITIONS];
            for (int p = 0; p < POSITIONS; ++p) r[p] = image.coarse + at.columns[p] + at.rows[p][s];
            for (int t = 0; t < d.pairs; ++t, filters += 2 * d.lanes) {
                __m512bh f[VECTORS];
                for (int v = 0; v < VECTORS; ++v) f[v] = (__m512bh)_mm512_loadu_si512(filters + 2 * v * V);
                for (int p = 0; p < POSITIONS; ++p) {
                    std::int32_t pair;
                    __builtin_memcpy(&pair, r[p] + 2 * t, sizeof pair);
                    const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
                    for (int v = 0; v < VECTORS; ++v) sums[p][v] = _mm512_dpbf16_ps(sums[p][v], f[v], both);
                }
            }
        }
    }
};

void coarsen(const Plane& image) {
    const std::int32_t length = (image.width + image.side - 1) * image.channels;
    for (std::int32_t i = 0; i < image.height; ++i) {
        const float* from = image.data + image.rows[i];
        std::uint16_t* to = image.coarse + image.rows[i];
        for (std::int32_t j = 0; j < length; j += V) {  // reads and writes into the scratch room
            const __m256bh rounded = _mm512_cvtneps_pbh(load(from + j));
            __builtin_memcpy(to + j, &rounded, sizeof rounded);
        }
    }
}

#else

constexpr float COARSE_ERROR = 0;
using Coarse = Full;
void coarsen(const Plane&) {}

#endif

inline void keep_best(const Screening& task, std::int32_t n, int first, const Vec (&sums)[VECTORS]) {
    Vec sizes[VECTORS];
    for (int v = 0; v < VECTORS; ++v) sizes[v] = absolute(sums[v]);
    float size[BLOCK];
    // A block lies within one word, since BLOCK divides 64.
    const std::uint64_t active = task.active[std::int64_t(task.positions[n]) * task.words + first / 64];
    if (active) {
        for (int v = 0; v < VECTORS; ++v) store(size + v * V, sizes[v]);
        for (std::uint64_t bits = active; bits; bits &= bits - 1) {
            const int k = first / 64 * 64 + __builtin_ctzll(bits) - first;
            if (0 <= k && k < BLOCK) size[k] = 0;
        }
        for (int v = 0; v < VECTORS; ++v) sizes[v] = load(size + v * V);
    }
    Vec top = sizes[0];
    for (int v = 1; v < VECTORS; ++v) top = larger(top, sizes[v]);
    const float best = largest(top);
    if (best <= task.best[n]) return;
    task.best[n] = best;
    if (best <= task.floor) return;
    for (int v = 0; v < VECTORS; ++v) store(size + v * V, sizes[v]);
    int k = 0;
    while (k < BLOCK - 1 && size[k] != best) ++k;
    task.which[n] = first + k;
}

template <class Precision>
void screen(const Packed& d, const Plane& image, const Screening& task) {
    for (std::int32_t start = 0; start < task.count; start += POSITIONS) {
        const int here = task.count - start < POSITIONS ? task.count - start : POSITIONS;
        Patches at;
        for (int p = 0; p < POSITIONS; ++p) {  // a short block repeats its first position
            const std::int32_t position = task.positions[start + (p < here ? p : 0)];
            at.columns[p] = position % image.width * image.channels;
            at.rows[p] = image.rows + position / image.width;
        }
        for (int p = 0; p < here; ++p) task.best[start + p] = -1;
        for (int first = 0; first < d.lanes; first += BLOCK) {
            Vec sums[POSITIONS][VECTORS] = {};
            Precision::correlate(d, image, at, first, sums);
            for (int p = 0; p < here; ++p) keep_best(task, start + p, first, sums[p]);
        }
    }
}

}  // namespace
}  // namespace stl_ray
