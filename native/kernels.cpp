// Compiled once per instruction set: STL_RAY_ISA is its name and STL_RAY_VECTOR the number of floats in its vectors.
#include "kernels.hpp"

#include "screening.hpp"
#include "vector.hpp"

namespace stl_ray {
namespace {

// SIDE and PADDED are 0 where they are known at run time only.
template <int SIDE, int PADDED>
inline float dot(const Packed& d, const float* atom, const float* base, const std::int32_t* rows) {
    const int side = SIDE ? SIDE : d.side, padded = PADDED ? PADDED : d.padded;
    Vec total = {};
    Half rest = {};
    for (int s = 0; s < side; ++s, atom += padded) {
        const float* r = base + rows[s];
        for (int t = 0; t + V <= padded; t += V) total += load(atom + t) * load(r + t);
        if (padded % V) rest += load_half(atom + padded - V / 2) * load_half(r + padded - V / 2);
    }
    return padded % V ? sum(total + widened(rest)) : sum(total);
}

template <int SIDE, int PADDED>
inline void axpy(const Packed& d, float factor, const float* atom, float* base, const std::int32_t* rows) {
    const int side = SIDE ? SIDE : d.side, padded = PADDED ? PADDED : d.padded;
    for (int s = 0; s < side; ++s, atom += padded) {
        float* r = base + rows[s];
        for (int t = 0; t + V <= padded; t += V) store(r + t, load(r + t) + factor * load(atom + t));
        if (padded % V) {
            float* end = r + padded - V / 2;
            store_half(end, load_half(end) + factor * load_half(atom + padded - V / 2));
        }
    }
}

inline const float* filter_of(const Packed& d, const Atom& a) {
    return d.atoms + std::int64_t(a.filter) * d.side * d.padded;
}

// On the torus: a patch that crosses the right edge, or lies in columns that are repeated, is added in both places.
template <int SIDE, int PADDED>
inline void add(const Packed& d, const Plane& image, const Atom& a, float factor) {
    const float* atom = filter_of(d, a);
    const std::int32_t* rows = image.rows + a.row;
    float* base = image.data + a.column * image.channels;
    const std::int32_t around = image.width * image.channels;
    axpy<SIDE, PADDED>(d, factor, atom, base, rows);
    if (a.column > image.width - image.side) axpy<SIDE, PADDED>(d, factor, atom, base - around, rows);
    if (a.column < image.side - 1) axpy<SIDE, PADDED>(d, factor, atom, base + around, rows);
}

template <int SIDE, int PADDED>
inline float correlation(const Packed& d, const Plane& image, const Atom& a) {
    return dot<SIDE, PADDED>(d, filter_of(d, a), image.data + a.column * image.channels, image.rows + a.row);
}

template <int SIDE, int PADDED>
float sweep(const Packed& d, const Plane& residual, Atom* atoms, const std::int32_t* order, std::int32_t count,
            float lambda, float least, std::uint8_t* changed) {
    float most = 0;
    for (std::int32_t n = 0; n < count; ++n) {
        Atom& a = atoms[order[n]];
        const float c = correlation<SIDE, PADDED>(d, residual, a) + a.value * d.energy[a.filter];
        const float excess = __builtin_fabsf(c) - lambda;
        const float value = excess > 0 ? __builtin_copysignf(excess, c) * d.inverse_energy[a.filter] : 0.0f;
        const float change = value - a.value, moved = __builtin_fabsf(change) * d.energy[a.filter];
        if (moved > most) most = moved;
        // To and from zero always: a new coefficient that is not made would be dropped and found again for ever.
        changed[order[n]] = moved > least || (moved > 0 && (value == 0 || a.value == 0));
        if (changed[order[n]]) {
            a.value = value;
            add<SIDE, PADDED>(d, residual, a, -change);
        }
    }
    return most;
}

template <int SIDE, int PADDED>
void add_atoms(const Packed& d, const Plane& image, const Atom* atoms, std::int32_t count, float factor) {
    for (std::int32_t n = 0; n < count; ++n)
        if (atoms[n].value != 0) add<SIDE, PADDED>(d, image, atoms[n], factor * atoms[n].value);
}

template <int SIDE, int PADDED>
void correlate_atoms(const Packed& d, const Plane& image, const Atom* atoms, std::int32_t count, float* values) {
    for (std::int32_t n = 0; n < count; ++n) values[n] = correlation<SIDE, PADDED>(d, image, atoms[n]);
}

std::int32_t choose(const float* largest_known, const float* moved, float share, float limit, std::int32_t count,
                    std::int32_t* chosen) {
    std::int32_t found = 0;
    for (std::int32_t start = 0; start < count; start += V) {
        const std::int32_t end = start + V < count ? start + V : count;
        // Mostly there is none among the next V.
        if (end == start + V && largest(load(largest_known + start) + share * load(moved + start)) <= limit) continue;
        for (std::int32_t p = start; p < end; ++p)
            if (!(largest_known[p] + share * moved[p] <= limit)) chosen[found++] = p;
    }
    return found;
}

void add_distances(const Plane& a, const Plane& b, float factor, float* moved, float* scratch) {
    const std::int32_t h = a.height, w = a.width, wide = w + a.side - 1;
    float* energy = scratch;  // (wide) of one row
    float* column = scratch + wide;
    float* runs = column + w;  // (h, w): sums along the rows
    for (std::int32_t i = 0; i < h; ++i) {
        const float *x = a.data + a.rows[i], *y = b.data + b.rows[i];
        for (std::int32_t j = 0; j < wide; ++j, x += a.channels, y += a.channels) {
            energy[j] = 0;
            for (std::int32_t c = 0; c < a.channels; ++c) energy[j] += (x[c] - y[c]) * (x[c] - y[c]);
        }
        float* run = runs + std::int64_t(i) * w;
        for (std::int32_t j = 0; j < w; ++j) run[j] = energy[j];
        for (std::int32_t t = 1; t < a.side; ++t)
            for (std::int32_t j = 0; j < w; ++j) run[j] += energy[j + t];
    }
    for (std::int32_t i = 0; i < h; ++i) {
        for (std::int32_t j = 0; j < w; ++j) column[j] = 0;
        for (std::int32_t t = 0; t < a.side; ++t) {
            const float* run = runs + std::int64_t((i + t) % h) * w;
            for (std::int32_t j = 0; j < w; ++j) column[j] += run[j];
        }
        float* m = moved + std::int64_t(i) * w;
        for (std::int32_t j = 0; j < w; ++j) m[j] += factor * __builtin_sqrtf(column[j]);
    }
}

template <int SIDE, int PADDED>
constexpr Kernels table() {
    return {V,
            BLOCK,
            COARSE_ERROR,
            screen<Full>,
            screen<Coarse>,
            coarsen,
            choose,
            sweep<SIDE, PADDED>,
            add_atoms<SIDE, PADDED>,
            add_distances,
            correlate_atoms<SIDE, PADDED>};
}

}  // namespace

#define JOINED(a, b) a##b
#define NAMED(isa) JOINED(kernels_, isa)

// For any filters, and for the paper's 8 x 8 x 3.
extern const Kernels NAMED(STL_RAY_ISA)[2];
const Kernels NAMED(STL_RAY_ISA)[2] = {table<0, 0>(), table<8, 24>()};

}  // namespace stl_ray
