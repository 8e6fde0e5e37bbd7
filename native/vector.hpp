// Vectors of STL_RAY_VECTOR floats, by the compiler's vector extension: one text for every instruction set.
#pragma once

#include <cstdint>
#include <utility>

namespace stl_ray {
namespace {

constexpr int V = STL_RAY_VECTOR;

using Vec = float __attribute__((vector_size(V * 4)));
using Lanes = std::int32_t __attribute__((vector_size(V * 4)));
using Unaligned = float __attribute__((vector_size(V * 4), aligned(4), may_alias));

using Half = float __attribute__((vector_size(V * 2)));
using UnalignedHalf = float __attribute__((vector_size(V * 2), aligned(4), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Unaligned*>(p) = v; }

inline Half load_half(const float* p) { return *reinterpret_cast<const UnalignedHalf*>(p); }
inline void store_half(float* p, Half v) { *reinterpret_cast<UnalignedHalf*>(p) = v; }

inline Vec absolute(Vec v) { return reinterpret_cast<Vec>(reinterpret_cast<Lanes>(v) & 0x7fffffff); }
inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }

inline Vec root(Vec v) {
#if __has_builtin(__builtin_elementwise_sqrt)
    return __builtin_elementwise_sqrt(v);
#else
    for (int lane = 0; lane < V; ++lane) v[lane] = __builtin_sqrtf(v[lane]);
    return v;
#endif
}

// Lane i of the result is lane i ^ DISTANCE.
template <int DISTANCE, int... I>
inline Vec swapped(Vec v, std::integer_sequence<int, I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(v, v, (I ^ DISTANCE)...);
#else
    return __builtin_shuffle(v, Lanes{(I ^ DISTANCE)...});
#endif
}

template <int DISTANCE = V / 2>
inline float sum(Vec v) {
    if constexpr (DISTANCE == 0) return v[0];
    else return sum<DISTANCE / 2>(v + swapped<DISTANCE>(v, std::make_integer_sequence<int, V>()));
}

// Zeros above v.
template <int... I>
inline Vec widened(Half v, std::integer_sequence<int, I...>) {
#if __has_builtin(__builtin_shufflevector)
    return __builtin_shufflevector(v, Half{}, I...);
#else
    return Vec{(I < V / 2 ? v[I % (V / 2)] : 0.0f)...};
#endif
}

inline Vec widened(Half v) { return widened(v, std::make_integer_sequence<int, V>()); }

template <int DISTANCE = V / 2>
inline float largest(Vec v) {
    if constexpr (DISTANCE == 0) return v[0];
    else return largest<DISTANCE / 2>(larger(v, swapped<DISTANCE>(v, std::make_integer_sequence<int, V>())));
}

}  // namespace
}  // namespace stl_ray
