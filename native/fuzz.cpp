// Random problems for the native core, to be built with the address and undefined-behaviour sanitizers: what it returns
// is held against plain loops in double precision.
//
//     fuzz [SECONDS = 10] [SEED = 0]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "active_set.hpp"
#include "batch.hpp"
#include "instruction_sets.hpp"
#include "span.hpp"
#include "split_bregman.hpp"
#include "statistics.hpp"

using namespace stl_ray;

namespace {

struct Problem {
    int filters, channels, side, height, width;
    float lambda, violation, change;
    std::vector<float> d, s;

    double filter(int k, int c, int i, int j) const { return d[((std::size_t(k) * channels + c) * side + i) * side + j]; }
    std::size_t pixel(int c, int i, int j) const { return (std::size_t(c) * height + i % height) * width + j % width; }
    std::size_t pixels() const { return std::size_t(channels) * height * width; }
};

int failures = 0;

void expect(bool holds, const Problem& p, const char* what, double got) {
    if (holds) return;
    ++failures;
    std::fprintf(stderr, "FAILED: %s (got %g) for K %d, C %d, S %d, %d x %d, lambda %g\n", what, got, p.filters, p.channels,
                 p.side, p.height, p.width, p.lambda);
}

Problem random_problem(std::mt19937_64& random) {
    const auto among = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    std::normal_distribution<float> normal;
    Problem p;
    const bool usual = among(0, 1);
    p.side = usual ? 8 : among(1, 16);
    p.channels = usual ? 3 : among(1, 4);
    p.filters = among(0, 5) ? among(1, 20) : among(63, 66);
    p.height = p.side + among(0, among(0, 7) ? 10 : 40);
    p.width = p.side + among(0, 10);
    p.violation = std::exp2(float(among(-8, -2)));
    p.change = std::exp2(float(among(-8, 0)));
    p.d.resize(std::size_t(p.filters) * p.channels * p.side * p.side);
    for (float& value : p.d) value = normal(random);
    const std::size_t length = p.d.size() / p.filters;
    const double scale = among(0, 1) ? 1 : std::sqrt(p.channels);  // the two norm conventions
    for (int k = 0; k < p.filters; ++k) {
        double norm = 0;
        for (std::size_t t = 0; t < length; ++t) norm += double(p.d[k * length + t]) * p.d[k * length + t];
        const double size = std::sqrt(norm) / scale;
        for (std::size_t t = 0; t < length; ++t) p.d[k * length + t] /= float(size);
    }
    if (p.filters > 1 && !among(0, 3)) std::copy_n(p.d.begin(), length, p.d.begin() + length);  // two equal filters
    p.s.assign(p.pixels(), 0.0f);
    switch (among(0, 8)) {
        case 0: break;  // black
        case 1: std::fill(p.s.begin(), p.s.end(), normal(random)); break;
        case 2: p.s[among(0, int(p.s.size()) - 1)] = 1; break;
        case 3: for (float& value : p.s) value = 1e-20f * normal(random); break;
        case 4: for (float& value : p.s) value = 1e38f * normal(random); break;
        default: for (float& value : p.s) value = 0.3f * normal(random);
    }
    p.lambda = std::exp2(float(among(-5, 1)));
    return p;
}

std::vector<double> synthesize(const Problem& p, const std::vector<Atom>& atoms) {
    std::vector<double> image(p.pixels());
    for (const Atom& a : atoms)
        for (int c = 0; c < p.channels; ++c)
            for (int i = 0; i < p.side; ++i)
                for (int j = 0; j < p.side; ++j)
                    image[p.pixel(c, a.row + i, a.column + j)] += a.value * p.filter(a.filter, c, i, j);
    return image;
}

double correlation(const Problem& p, const std::vector<double>& image, int k, int row, int column) {
    double total = 0;
    for (int c = 0; c < p.channels; ++c)
        for (int i = 0; i < p.side; ++i)
            for (int j = 0; j < p.side; ++j) total += p.filter(k, c, i, j) * image[p.pixel(c, row + i, column + j)];
    return total;
}

void check_solution(const Problem& p, const Settings& settings, const Solution& solution, const std::vector<float>& synthesis) {
    if (*std::max_element(p.s.begin(), p.s.end()) > 1e3f) return;  // may overflow, may not: it has to return
    const std::vector<double> image = synthesize(p, solution.atoms);
    std::vector<double> residual(p.pixels());
    double off = 0;
    for (std::size_t n = 0; n < p.pixels(); ++n) {
        residual[n] = p.s[n] - image[n];
        off = std::max(off, std::abs(image[n] - synthesis[n]));
    }
    expect(off < 1e-4, p, "synthesis is D x", off);
    for (std::size_t n = 0; n < solution.atoms.size(); ++n) {
        expect(solution.atoms[n].value != 0, p, "no zero among the coefficients", 0);
        const Atom &a = solution.atoms[n], &b = solution.atoms[n ? n - 1 : n];
        expect(!n || std::tie(b.filter, b.row, b.column) < std::tie(a.filter, a.row, a.column), p,
               "coefficients in order, each once", double(n));
    }
    if (solution.status != Status::converged) return;
    double largest = 0;
    for (int k = 0; k < p.filters; ++k)
        for (int i = 0; i < p.height; ++i)
            for (int j = 0; j < p.width; ++j) largest = std::max(largest, std::abs(correlation(p, residual, k, i, j)));
    // An active coefficient may violate by what its neighbours moved in the last sweep.
    const double allowed = settings.lambda * (1 + settings.violation + 3 * settings.change) + 1e-4;
    expect(largest <= allowed, p, "no violator in a converged solution", largest / settings.lambda);
}

bool same(const Solution& a, const Solution& b) {
    return a.status == b.status && a.iterations == b.iterations && a.atoms.size() == b.atoms.size() &&
           (a.atoms.empty() || !std::memcmp(a.atoms.data(), b.atoms.data(), a.atoms.size() * sizeof(Atom)));
}

void check_span(const Problem& p, const Dictionary& dictionary, const std::vector<Atom>& atoms) {
    std::vector<float> orthogonal(p.pixels());
    const float left = off_the_span(dictionary, p.s.data(), p.height, p.width, atoms, {60, 1e-3f}, orthogonal.data());
    const std::vector<double> image(orthogonal.begin(), orthogonal.end());
    const std::vector<double> whole(p.s.begin(), p.s.end());
    double before = 0, after = 0;
    for (const Atom& a : atoms) {
        before += std::pow(correlation(p, whole, a.filter, a.row, a.column), 2);
        after += std::pow(correlation(p, image, a.filter, a.row, a.column), 2);
    }
    expect(std::sqrt(after) <= (left + 1e-3) * std::sqrt(before) + 1e-4, p, "the residual of the projection", left);
}

// Codes as maps; the image is the problem's own, or it read with its sides exchanged.
struct CodedImage {
    int height, width;
    std::vector<Atom> atoms;

    double map(int k, int i, int j) const {
        double value = 0;
        for (const Atom& a : atoms)
            if (a.filter == k && (i - a.row) % height == 0 && (j - a.column) % width == 0) value += a.value;
        return value;
    }
};

// Some correlations of random codes of two images with each other and with the images.
void check_statistics(const Problem& p, std::mt19937_64& random) {
    const auto among = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    std::normal_distribution<float> normal;
    Statistics statistics(p.filters, p.channels, p.side);
    CodedImage images[]{{p.height, p.width, {}}, {p.width, p.height, {}}};
    for (CodedImage& image : images) {
        image.atoms.resize(among(1, 60));
        for (Atom& a : image.atoms)
            a = {among(0, p.filters - 1), among(0, image.height - 1), among(0, image.width - 1), normal(random)};
        statistics.add(image.atoms, p.s.data(), image.height, image.width);
    }
    const std::vector<float> gram = statistics.gram(), &cross = statistics.cross();
    const int lags = 2 * p.side - 1;
    const auto lag = [&](int k, int l, int i, int j) {
        return gram[((std::size_t(k) * p.filters + l) * lags + i + p.side - 1) * lags + j + p.side - 1];
    };
    for (int n = 0; n < 30; ++n) {
        // Two atoms, so that their filters are used; the lag between them where it is short.
        const std::vector<Atom>& atoms = images[n % 2].atoms;
        const Atom &a = atoms[among(0, int(atoms.size()) - 1)], &b = atoms[among(0, int(atoms.size()) - 1)];
        const bool near = std::abs(b.row - a.row) < p.side && std::abs(b.column - a.column) < p.side;
        const int i = near ? b.row - a.row : among(1 - p.side, p.side - 1);
        const int j = near ? b.column - a.column : among(1 - p.side, p.side - 1);
        const int c = among(0, p.channels - 1), y = among(0, p.side - 1), x = among(0, p.side - 1);
        double of_codes = 0, of_image = 0, size = 0;
        for (const CodedImage& image : images)
            for (const Atom& atom : image.atoms) {
                if (atom.filter != a.filter) continue;
                of_codes += atom.value * image.map(b.filter, atom.row + i, atom.column + j);
                const int row = (atom.row + y) % image.height, column = (atom.column + x) % image.width;
                const double s = p.s[(std::size_t(c) * image.height + row) * image.width + column];
                of_image += atom.value * s;
                size += std::abs(atom.value * s);
            }
        double off = std::abs(lag(a.filter, b.filter, i, j) - of_codes);
        expect(off <= 1e-3, p, "the correlation of two filters' codes", off);
        off = std::abs(lag(b.filter, a.filter, -i, -j) - of_codes);
        expect(off <= 1e-3, p, "the same at the opposite lag", off);
        if (size > 1e30) continue;  // may overflow
        off = std::abs(cross[((std::size_t(a.filter) * p.channels + c) * p.side + y) * p.side + x] - of_image);
        expect(off <= 1e-5 * size + 1e-30, p, "the correlation of codes with the images", off);
    }
    for (const Atom outside : {Atom{0, 0, p.width, 1}, Atom{0, -1, 0, 1}, Atom{p.filters, 0, 0, 1}}) {
        try {
            statistics.add({&outside, 1}, p.s.data(), p.height, p.width);
            expect(false, p, "a coefficient outside of its map is refused", 0);
        } catch (const std::invalid_argument&) {
        }
    }
}

void run(const Problem& p) {
    for (const std::string& set : instruction_sets()) {
        const Dictionary dictionary(p.d.data(), p.filters, p.channels, p.side, set);
        const Settings settings{p.lambda, p.violation, p.change, 100};
        const int copies = 3;
        std::vector<std::vector<float>> synthesis(copies, std::vector<float>(p.pixels()));
        std::vector<Solution> solutions(copies);
        for_each_image(copies, 2, [&](int n) {
            solutions[n] = solve(dictionary, p.s.data(), p.height, p.width, settings, {}, synthesis[n].data());
        });
        for (int n = 1; n < copies; ++n) expect(same(solutions[0], solutions[n]), p, "the same on every thread", n);
        check_solution(p, settings, solutions[0], synthesis[0]);
        if (*std::max_element(p.s.begin(), p.s.end()) > 1e3f) continue;
        check_span(p, dictionary, solutions[0].atoms);
        const Solution warm = solve(dictionary, p.s.data(), p.height, p.width, settings, solutions[0].atoms, synthesis[0].data());
        check_solution(p, settings, warm, synthesis[0]);
        const std::vector<Atom> outside{{0, p.height, 0, 1.0f}};
        try {
            solve(dictionary, p.s.data(), p.height, p.width, settings, outside, synthesis[0].data());
            expect(false, p, "a start outside of the image is refused", 0);
        } catch (const std::invalid_argument&) {
        }
    }
}

// Every instruction set restores the problem's image to the same bits, and all of it stays within its range.
void check_bregman(const Problem& p, std::mt19937_64& random) {
    const auto among = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    BregmanSettings settings{.lambda = std::exp2(among(-2, 8)),
                             .isotropic = among(0, 1) != 0,
                             .sweeps = among(1, 12),
                             .tolerance = std::exp2(among(-12, -2)),
                             .max_iterations = among(1, 20),
                             .scale = {},
                             .share = {}};
    for (int n = 0; n < 5; ++n) {
        const double mu = settings.lambda / 2, divisor = mu + settings.lambda * std::max(n, 1);
        settings.scale[0][n] = 0.25f;
        settings.scale[1][n] = float(settings.lambda / divisor);
        settings.share[1][n] = float(mu / divisor);
    }
    const int height = among(1, p.height), width = among(1, p.width);
    const std::size_t pixels = std::size_t(p.channels) * height * width;
    const auto kept = std::make_unique<bool[]>(pixels);
    for (std::size_t n = 0; n < pixels; ++n) kept[n] = among(0, 1) != 0;
    std::vector<float> image(p.s.begin(), p.s.begin() + std::ptrdiff_t(pixels)), first, restored(pixels);
    for (const std::string& set : instruction_sets()) {
        const BregmanSolver solver(p.channels, height, width, settings, set);
        solver.solve(image.data(), kept.get(), restored.data());
        if (first.empty()) first = restored;
        expect(!std::memcmp(first.data(), restored.data(), pixels * sizeof(float)), p, "the same bits by every set", 0);
    }
    const float largest = std::abs(*std::max_element(image.begin(), image.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
    if (largest > 1e3f) return;  // may overflow
    for (const float value : first) expect(std::abs(value) <= 2 * largest + 1e-6f, p, "total variation minimised", value);
}

}  // namespace

int main(int count, char** arguments) {
    const double seconds = count > 1 ? std::atof(arguments[1]) : 10;
    std::mt19937_64 random(count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 0);
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    int problems = 0;
    do {
        const Problem problem = random_problem(random);
        run(problem);
        check_statistics(problem, random);
        check_bregman(problem, random);
        ++problems;
    } while (std::chrono::steady_clock::now() < end && failures == 0);
    std::printf("%d problems on", problems);
    for (const std::string& set : instruction_sets()) std::printf(" %s", set.c_str());
    std::printf(": %s\n", failures ? "failed" : "passed");
    return failures ? 1 : 0;
}
