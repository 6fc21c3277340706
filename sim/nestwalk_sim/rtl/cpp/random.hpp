// A small seedable generator (SplitMix64): the same figures for the same seed on every machine.
#pragma once
#include <cstdint>

class Random {
  public:
    explicit Random(uint64_t seed = 0) : state_(seed) {}

    uint64_t next() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }

    // 0 to bound - 1.
    uint32_t below(uint32_t bound) { return bound ? uint32_t((next() >> 32) * bound >> 32) : 0; }

    bool percent(uint32_t chance) { return chance && below(100) < chance; }

  private:
    uint64_t state_;
};
