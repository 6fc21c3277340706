// A flat vector of a port, with fields where the Amaranth layout has them.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>

#include "layout.hpp"

template <unsigned bits> struct Vector {
    std::array<uint32_t, (bits + 31) / 32> words{};

    void put(Slice slice, uint64_t value) {
        for (unsigned done = 0; done < slice.width;) {
            const unsigned at = slice.offset + done;
            const unsigned count = std::min(32 - at % 32, slice.width - done);
            const uint32_t mask = uint32_t((uint64_t(1) << count) - 1);
            words[at / 32] |= (uint32_t(value >> done) & mask) << at % 32;
            done += count;
        }
    }

    uint64_t get(Slice slice) const {
        uint64_t value = 0;
        for (unsigned done = 0; done < slice.width;) {
            const unsigned at = slice.offset + done;
            const unsigned count = std::min(32 - at % 32, slice.width - done);
            const uint64_t mask = (uint64_t(1) << count) - 1;
            value |= (words[at / 32] >> at % 32 & mask) << done;
            done += count;
        }
        return value;
    }

    bool operator==(const Vector& other) const { return words == other.words; }
};
