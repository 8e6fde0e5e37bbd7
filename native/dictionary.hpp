// Filters, packed for the instruction set that will run over them.
#pragma once

#include <new>
#include <span>
#include <string>
#include <vector>

#include "kernels.hpp"

namespace stl_ray {

// Vectors that begin a cache line.
template <class T>
struct Aligned {
    using value_type = T;
    Aligned() = default;
    template <class U>
    Aligned(const Aligned<U>&) {}
    T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))); }
    void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t(64)); }
    bool operator==(const Aligned&) const { return true; }
};

class Dictionary {
   public:
    // filters: (count, channels, side, side). Throws std::invalid_argument for an empty shape or an unknown set; "" is
    // the fastest.
    Dictionary(const float* filters, int count, int channels, int side, const std::string& instruction_set = "");
    Dictionary(const Dictionary&) = delete;

    const Packed& packed() const { return packed_; }
    const Kernels& kernels() const { return *kernels_; }
    const std::string& instruction_set() const { return instruction_set_; }
    float largest_norm() const { return largest_norm_; }

   private:
    std::string instruction_set_;
    const Kernels* kernels_;
    std::vector<float, Aligned<float>> atoms_, transposed_;
    std::vector<std::uint16_t, Aligned<std::uint16_t>> coarse_;
    std::vector<float> energy_, inverse_energy_;
    Packed packed_{};
    float largest_norm_ = 0;
};

// Throws std::invalid_argument for an image smaller than the filters, or an atom outside of it.
void check(const Dictionary&, int height, int width, std::span<const Atom> atoms);

}  // namespace stl_ray
