// What Python waits for: an operation has a handle, a state and perhaps a deadline; when it leaves `pending`, Python is woken.
#pragma once
#include <cstdint>
#include <functional>
#include <queue>
#include <unordered_map>
#include <vector>

enum State : uint8_t { PENDING = 0, DONE = 1, LATE = 2 };

class Operations {
  public:
    uint64_t now = 0;   // number of rising edges seen
    bool wake = false;  // changes level whenever something finishes

    uint32_t start() {
        states_[++last_] = PENDING;
        return last_;
    }

    void finish(uint32_t handle, State state = DONE) {
        const auto found = states_.find(handle);
        if (found == states_.end() || found->second != PENDING) return;
        found->second = state;
        wake_python();
    }

    State state(uint32_t handle) const {
        const auto found = states_.find(handle);
        return found == states_.end() ? LATE : found->second;
    }

    void forget(uint32_t handle) { states_.erase(handle); }

    // At this edge the operation ends with this state if it is still pending.
    void at(uint64_t cycle, uint32_t handle, State state) { deadlines_.push({cycle, handle, state}); }

    void clock() {
        while (!deadlines_.empty() && deadlines_.top().cycle <= now) {
            const Deadline reached = deadlines_.top();
            deadlines_.pop();
            finish(reached.handle, reached.state);
        }
    }

    void wake_python() { woken_ = true; }

    // One change of level per edge, however much has finished.
    bool next_wake() {
        if (woken_) wake = !wake;
        woken_ = false;
        return wake;
    }

  private:
    struct Deadline {
        uint64_t cycle;
        uint32_t handle;
        State state;
        bool operator>(const Deadline& other) const { return cycle > other.cycle; }
    };

    uint32_t last_ = 0;
    bool woken_ = false;
    std::unordered_map<uint32_t, State> states_;
    std::priority_queue<Deadline, std::vector<Deadline>, std::greater<Deadline>> deadlines_;
};
