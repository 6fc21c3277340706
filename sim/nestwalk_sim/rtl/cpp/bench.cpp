// The bench: ports called by bench.sv on each rising edge (DPI-C), and what Python calls between edges (ctypes).
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "svdpi.h"

#include "axi_memory.hpp"
#include "core_driver.hpp"
#include "csr_master.hpp"
#include "dma_master.hpp"
#include "layout.hpp"
#include "operations.hpp"
#include "page_driver.hpp"
#include "sparse_memory.hpp"

namespace {

struct Watch {
    uint32_t handle;
    uint64_t address;
    uint64_t mask, value;
};

struct InterruptWait {
    uint32_t handle;
    unsigned line;
    uint64_t count;
};

struct Bench {
    static constexpr size_t interrupt_lines = 3;

    Operations operations;
    SparseMemory memory;
    AxiMemory mem{"mem", memory, [this](const std::string& what) { violation(what); }};
    AxiMemory out{"out", memory, [this](const std::string& what) { violation(what); }};
    CoreDriver core{operations, [this](const std::string& what) { violation(what); }};
    CsrMaster csr{operations};
    DmaMaster dma{operations};
    PageDriver pages{operations, [this](const std::string& what) { violation(what); }};
    std::vector<Watch> watches;
    std::vector<InterruptWait> interrupt_waits;
    std::array<bool, interrupt_lines> interrupt_level{};
    std::array<uint64_t, interrupt_lines> interrupt_count{};
    uint64_t reset_until = 2;
    bool rst = true;
    std::string problem;  // the first violation of a protocol by the unit

    Bench() {
        memory.on_write = [this](uint64_t address, uint64_t size) {
            mem.forget_exclusive(address, size);
            out.forget_exclusive(address, size);
            check_watches(address, size);
        };
    }

    void violation(const std::string& what) {
        if (problem.empty()) problem = "cycle " + std::to_string(operations.now) + ": " + what;
        operations.wake_python();
    }

    void check_watches(uint64_t address, uint64_t size) {
        auto reached = [&](const Watch& watch) {
            if (address >= watch.address + 8 || watch.address >= address + size || !holds(watch)) return false;
            operations.finish(watch.handle);
            return true;
        };
        watches.erase(std::remove_if(watches.begin(), watches.end(), reached), watches.end());
    }

    bool holds(const Watch& watch) {
        uint64_t value = 0;
        return memory.read(watch.address, reinterpret_cast<uint8_t*>(&value), 8) && (value & watch.mask) == watch.value;
    }

    void interrupts(const std::array<bool, interrupt_lines>& level) {
        for (size_t line = 0; line < interrupt_lines; line++) {
            if (level[line] && !interrupt_level[line]) interrupt_count[line]++;
            interrupt_level[line] = level[line];
        }
        auto reached = [&](const InterruptWait& wait) {
            if (interrupt_count[wait.line] < wait.count) return false;
            operations.finish(wait.handle);
            return true;
        };
        if (!interrupt_waits.empty())
            interrupt_waits.erase(std::remove_if(interrupt_waits.begin(), interrupt_waits.end(), reached),
                                  interrupt_waits.end());
    }
};

std::unique_ptr<Bench> the_bench = std::make_unique<Bench>();

// One edge of a port of the memory; it rests while the unit is in reset.
const AxiOut& memory_clock(AxiMemory& memory, const AxiIn& in) {
    if (the_bench->rst)
        memory.reset();
    else
        memory.clock(in, the_bench->operations.now);
    return memory.out;
}

Beat beat_of(const svBitVecVal* words) {
    Beat beat;
    std::memcpy(beat.data(), words, beat.size());
    return beat;
}

}  // namespace

extern "C" {

// --- DPI-C: what happens on a rising edge ----------------------------------------------------------------------------

#define AXI_MEMORY_PORT(function, port)                                                                                      \
    void function(svBit arvalid, int arid, long long araddr, int arlen, int arsize, int arburst, svBit arlock, svBit awvalid,   \
                  int awid, long long awaddr, int awlen, int awsize, int awburst, svBit awlock, svBit wvalid,                   \
                  const svBitVecVal* wdata, long long wstrb, svBit wlast, svBit rready, svBit bready, svBit* arready,           \
                  svBit* awready, svBit* wready, svBit* rvalid, int* rid, svBitVecVal* rdata, int* rresp, svBit* rlast,         \
                  svBit* bvalid, int* bid, int* bresp) {                                                                       \
        AxiIn in;                                                                                                              \
        if (arvalid)                                                                                                           \
            in.ar = {true,           uint16_t(arid),   uint64_t(araddr), uint8_t(arlen),                                       \
                     uint8_t(arsize), uint8_t(arburst), uint8_t(arlock)};                                                      \
        if (awvalid)                                                                                                           \
            in.aw = {true,           uint16_t(awid),   uint64_t(awaddr), uint8_t(awlen),                                       \
                     uint8_t(awsize), uint8_t(awburst), uint8_t(awlock)};                                                      \
        if (wvalid) in.w = {true, beat_of(wdata), uint64_t(wstrb), bool(wlast)};                                               \
        in.r_ready = rready;                                                                                                   \
        in.b_ready = bready;                                                                                                   \
        const AxiOut& out = memory_clock(the_bench->port, in);                                                                 \
        *arready = out.ar_ready;                                                                                               \
        *awready = out.aw_ready;                                                                                               \
        *wready = out.w_ready;                                                                                                 \
        *rvalid = out.r_valid;                                                                                                 \
        *rid = out.r_id;                                                                                                       \
        std::memcpy(rdata, out.r_data.data(), out.r_data.size());                                                              \
        *rresp = out.r_response;                                                                                               \
        *rlast = out.r_last;                                                                                                   \
        *bvalid = out.b_valid;                                                                                                 \
        *bid = out.b_id;                                                                                                       \
        *bresp = out.b_response;                                                                                               \
    }

AXI_MEMORY_PORT(bench_memory, mem)
AXI_MEMORY_PORT(bench_out, out)

void bench_dma(svBit arready, svBit awready, svBit wready, svBit rvalid, const svBitVecVal* rdata, int rresp, svBit bvalid,
               int bresp, svBit* arvalid, svBit* awvalid, long long* address, int* len, int* sid, svBit* ssidv, int* ssid,
               svBit* wvalid, svBitVecVal* wdata, long long* wstrb, svBit* wlast, svBit* rready, svBit* bready) {
    DmaMaster& dma = the_bench->dma;
    if (the_bench->rst) {
        dma.reset();
    } else {
        DmaIn in;
        in.ar_ready = arready;
        in.aw_ready = awready;
        in.w_ready = wready;
        in.r_valid = rvalid;
        in.b_valid = bvalid;
        in.r_response = uint8_t(rresp);
        in.b_response = uint8_t(bresp);
        if (rvalid) in.r_data = beat_of(rdata);
        dma.clock(in);
    }
    *arvalid = dma.out.ar_valid;
    *awvalid = dma.out.aw_valid;
    *address = dma.access.start();
    *len = int(dma.access.beats()) - 1;
    *sid = dma.access.source_id;
    *ssidv = dma.access.pasid_valid;
    *ssid = dma.access.pasid;
    *wvalid = dma.out.w_valid;
    std::memcpy(wdata, dma.out.w.data.data(), dma.out.w.data.size());
    *wstrb = dma.out.w.strobe;
    *wlast = dma.out.w.last;
    *rready = dma.out.r_ready;
    *bready = dma.out.b_ready;
}

void bench_core(svBit request_ready, svBit response_valid, const svBitVecVal* response, svBit* request_valid,
                svBitVecVal* request, svBit* response_ready) {
    if (the_bench->rst) {
        the_bench->core.reset();
    } else {
        CoreIn in;
        in.request_ready = request_ready;
        in.response_valid = response_valid;
        if (response_valid) std::memcpy(in.response.words.data(), response, sizeof(in.response.words));
        the_bench->core.clock(in);
    }
    const CoreOut& out = the_bench->core.out;
    *request_valid = out.request_valid;
    std::memcpy(request, out.request.words.data(), sizeof(out.request.words));
    *response_ready = out.response_ready;
}

void bench_pages(svBit request_ready, svBit response_valid, const svBitVecVal* response, svBit* request_valid,
                 svBitVecVal* request, svBit* response_ready) {
    if (the_bench->rst) {
        the_bench->pages.reset();
    } else {
        PageIn in;
        in.request_ready = request_ready;
        in.response_valid = response_valid;
        if (response_valid) std::memcpy(in.response.words.data(), response, sizeof(in.response.words));
        the_bench->pages.clock(in);
    }
    const PageOut& out = the_bench->pages.out;
    *request_valid = out.request_valid;
    std::memcpy(request, out.request.words.data(), sizeof(out.request.words));
    *response_ready = out.response_ready;
}

void bench_csr(svBit awready, svBit wready, svBit bvalid, int bresp, svBit arready, svBit rvalid, long long rdata, int rresp,
               svBit* awvalid, svBit* wvalid, svBit* bready, svBit* arvalid, svBit* rready, int* address, long long* wdata,
               int* wstrb) {
    if (the_bench->rst)
        the_bench->csr.reset();
    else
        the_bench->csr.clock({bool(awready), bool(wready), bool(bvalid), bool(arready), bool(rvalid), uint8_t(bresp),
                         uint8_t(rresp), uint64_t(rdata)});
    const CsrOut& out = the_bench->csr.out;
    *awvalid = out.aw_valid;
    *wvalid = out.w_valid;
    *bready = out.b_ready;
    *arvalid = out.ar_valid;
    *rready = out.r_ready;
    *address = out.address;
    *wdata = out.w_data;
    *wstrb = out.w_strobe;
}

void bench_step(svBit irq_fault, svBit irq_invalidation, svBit irq_page_request, svBit* rst, svBit* wake) {
    if (!the_bench->rst) the_bench->interrupts({bool(irq_fault), bool(irq_invalidation), bool(irq_page_request)});
    the_bench->rst = the_bench->operations.now < the_bench->reset_until;
    *rst = the_bench->rst;
    the_bench->operations.clock();
    *wake = the_bench->operations.next_wake();
    the_bench->operations.now++;
}

// A new bench for a new test; time goes on, and the unit is in reset until that is over.
void nw_restart() {
    const uint64_t now = the_bench->operations.now;
    const bool wake = the_bench->operations.wake;
    the_bench = std::make_unique<Bench>();
    the_bench->operations.now = now;
    the_bench->operations.wake = wake;
    the_bench->reset_until = now + 2;
}

// --- Python: operations ----------------------------------------------------------------------------------------------

uint64_t nw_now() { return the_bench->operations.now; }
int nw_state(uint32_t handle) { return the_bench->operations.state(handle); }
void nw_forget(uint32_t handle) { the_bench->operations.forget(handle); }
void nw_deadline(uint32_t handle, uint64_t cycles) { the_bench->operations.at(the_bench->operations.now + cycles, handle, LATE); }
const char* nw_problem() { return the_bench->problem.c_str(); }
void nw_clear_problem() { the_bench->problem.clear(); }

uint32_t nw_cycles(uint64_t cycles) {
    const uint32_t handle = the_bench->operations.start();
    the_bench->operations.at(the_bench->operations.now + cycles - 1, handle, DONE);
    return handle;
}

uint32_t nw_reset(uint64_t cycles) {
    the_bench->reset_until = the_bench->operations.now + cycles;
    return nw_cycles(cycles + 2);
}

uint32_t nw_watch_memory(uint64_t address, uint64_t mask, uint64_t value) {
    const Watch watch{the_bench->operations.start(), address, mask, value};
    if (the_bench->holds(watch))
        the_bench->operations.finish(watch.handle);
    else
        the_bench->watches.push_back(watch);
    return watch.handle;
}

uint64_t nw_interrupt_count(unsigned line) { return the_bench->interrupt_count[line]; }
int nw_interrupt_level(unsigned line) { return the_bench->interrupt_level[line]; }

uint32_t nw_wait_interrupt(unsigned line, uint64_t count) {
    const uint32_t handle = the_bench->operations.start();
    the_bench->interrupt_waits.push_back({handle, line, count});
    return handle;
}

// --- Python: core port -----------------------------------------------------------------------------------------------

uint32_t nw_submit(unsigned lane, const Request* requests, Answer* answers, uint64_t count) {
    return the_bench->core.submit(lane, requests, answers, count);
}
void nw_cancel(uint32_t handle) { the_bench->core.cancel(handle); }
void nw_core_knobs(unsigned lane, const CoreKnobs* knobs) { the_bench->core.set_knobs(lane, *knobs); }
void nw_hang_limit(uint64_t cycles) { the_bench->core.hang_limit = cycles; }

// --- Python: dma port ------------------------------------------------------------------------------------------------

uint32_t nw_dma(int write, uint64_t address, uint64_t size, unsigned source_id, int pasid_valid, unsigned pasid,
                const uint8_t* data) {
    DmaAccess access;
    access.handle = the_bench->operations.start();
    access.write = write;
    access.address = address;
    access.size = unsigned(size);
    access.source_id = uint16_t(source_id);
    access.pasid_valid = pasid_valid;
    access.pasid = pasid;
    if (write) access.data.assign(data, data + size);
    const uint32_t handle = access.handle;
    the_bench->dma.submit(std::move(access));
    return handle;
}

// The response; what was read goes to `into`.
int nw_dma_result(uint32_t handle, uint8_t* into) {
    const DmaResult result = std::move(the_bench->dma.results.at(handle));
    the_bench->dma.results.erase(handle);
    if (into) std::copy(result.data.begin(), result.data.end(), into);
    return result.response;
}

// --- Python: ats port ------------------------------------------------------------------------------------------------

uint32_t nw_request_pages(const PageRequest* requests, uint64_t* cycles, uint64_t count) {
    return the_bench->pages.submit(requests, cycles, count);
}

uint64_t nw_page_responses(PageResponse* into, uint64_t from) {
    const auto& responses = the_bench->pages.responses;
    if (into) std::copy(responses.begin() + from, responses.end(), into);
    return responses.size();
}

uint32_t nw_wait_page_responses(uint64_t count) { return the_bench->pages.wait(count); }
void nw_page_knobs(const PageKnobs* knobs) { the_bench->pages.set_knobs(*knobs); }

// --- Python: registers -----------------------------------------------------------------------------------------------

uint32_t nw_csr(int write, unsigned offset, unsigned size, uint64_t data, uint64_t mask) {
    const uint32_t handle = the_bench->operations.start();
    the_bench->csr.submit({handle, bool(write), uint16_t(offset), uint8_t(size), data, mask});
    return handle;
}

int nw_csr_result(uint32_t handle, uint64_t* data) {
    const CsrResult result = the_bench->csr.results.at(handle);
    the_bench->csr.results.erase(handle);
    *data = result.data;
    return result.response;
}

void nw_csr_skew(uint32_t percent) { the_bench->csr.skew_percent = percent; }

// --- Python: memory --------------------------------------------------------------------------------------------------

int nw_read(uint64_t address, uint8_t* into, uint64_t size) { return the_bench->memory.read(address, into, size); }
int nw_write(uint64_t address, const uint8_t* from, uint64_t size) { return the_bench->memory.write(address, from, size); }
void nw_clear_memory() { the_bench->memory.clear(); }

void nw_add_pages(const uint64_t* addresses, uint64_t count) {
    for (uint64_t index = 0; index < count; index++) the_bench->memory.add_page(addresses[index]);
}

void nw_remove_pages(const uint64_t* addresses, uint64_t count) {
    for (uint64_t index = 0; index < count; index++) the_bench->memory.remove_page(addresses[index]);
}

uint64_t nw_page_addresses(uint64_t* into) {
    const auto addresses = the_bench->memory.page_addresses();
    if (into) std::copy(addresses.begin(), addresses.end(), into);
    return addresses.size();
}

void nw_add_error(uint64_t start, uint64_t stop, int failure, int response) {
    the_bench->memory.add_error({start, stop, Failure(failure), uint8_t(response)});
}

void nw_clear_errors() { the_bench->memory.clear_errors(); }
void nw_fail_access(int write, uint64_t nth, int response) { the_bench->mem.fail_access(write, nth, response); }
void nw_memory_knobs(const MemoryKnobs* knobs) { the_bench->mem.set_knobs(*knobs); }
void nw_memory_counters(MemoryCounters* into) { *into = the_bench->mem.counters; }
uint64_t nw_reads_of(unsigned id) { return the_bench->mem.reads_by_id.at(id); }
unsigned nw_beat_bytes() { return DATA_BYTES; }
int nw_memory_idle() { return the_bench->mem.idle(); }

uint64_t nw_trace(Access* into, uint64_t from) {
    const auto& trace = the_bench->mem.trace;
    if (into) std::copy(trace.begin() + from, trace.end(), into);
    return trace.size();
}

void nw_clear_trace() { the_bench->mem.clear_trace(); }

}  // extern "C"
