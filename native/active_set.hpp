// CBPDN by coordinate descent on an active set, in the domain of the residual; no Python, no torch.
//
//     minimise over x   1/2 ||s - D x||^2 + lambda ||x||_1
//
// for one image s. Few coefficients are not zero, so the residual r = s - D x is what is kept, not the K maps. In turn,
//
//   screen  correlate the filters with the residual, d_k^T r, and activate at each position the one that violates
//           |d_k^T r| <= lambda the most (in the first rounds, at local maxima only);
//   sweep   minimise exactly over one active coefficient after another.
//
// A position is screened again only when its residual has moved enough to matter (|d_k^T dr| <= ||d_k|| ||dr||), in
// reduced precision and by a hopeful share of that bound while searching. What is returned as converged has passed a
// last screening under the whole bound, in full precision wherever rounding could matter. Sources: Friedman et al. 2010 (coordinate descent, active
// sets); Tibshirani et al. 2012 (screening by a rule that may fail, with a check).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dictionary.hpp"
#include "kernels.hpp"

namespace stl_ray {

struct Settings {
    float lambda;
    float violation;  // |d_k^T r| may exceed lambda by this share at a coefficient that is zero
    float change;     // the last sweep's largest change of a coefficient, by what it moved d_k^T r, in lambdas
    std::int32_t max_iterations;
};

enum class Status : std::int32_t { converged = 0, max_iterations = 1, diverged = 2 };

struct Solution {
    std::vector<Atom> atoms;  // by filter, then position
    Status status;
    std::int32_t iterations;  // of screening and sweeps
};

// Solve one image: highpass and synthesis = D x are (channels, height, width). `start` holds every coefficient at most
// once. Throws std::invalid_argument for an image smaller than the filters or a start outside of it.
Solution solve(const Dictionary&, const float* highpass, int height, int width, const Settings&,
               std::span<const Atom> start, float* synthesis);

}  // namespace stl_ray
