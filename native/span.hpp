// The part of an image that is orthogonal to a set of atoms: what the exact gradient of the projection needs.
#pragma once

#include <span>

#include "dictionary.hpp"

namespace stl_ray {

struct SpanSettings {
    std::int32_t steps;  // of conjugate gradients, at most
    float tolerance;     // on ||D_S^T r|| / ||D_S^T v||
};

// orthogonal = v - P v, both (channels, height, width), with P the orthogonal projector onto the span of `atoms` (their
// values do not matter), by conjugate gradients on the normal equations (CGLS, Bjorck 1996, section 7.4). Returns the
// ||D_S^T r|| / ||D_S^T v|| that was reached; 0 without atoms or where v is orthogonal to them all.
float off_the_span(const Dictionary&, const float* v, int height, int width, std::span<const Atom> atoms,
                   const SpanSettings&, float* orthogonal);

}  // namespace stl_ray
