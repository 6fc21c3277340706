// The unit and, on each rising edge, one call to C++ for each of its ports. C++ sees the unit's outputs as they were before
// the edge; what it drives reaches the unit after it (nonblocking), as from any other register.
module bench;
  import bench_widths::*;

  import "DPI-C" function void bench_memory(
    input bit arvalid, input int arid, input longint araddr, input int arlen, input int arsize, input int arburst,
    input bit arlock,
    input bit awvalid, input int awid, input longint awaddr, input int awlen, input int awsize, input int awburst,
    input bit awlock,
    input bit wvalid, input bit [MEM_WDATA-1:0] wdata, input longint wstrb, input bit wlast,
    input bit rready, input bit bready,
    output bit arready, output bit awready, output bit wready,
    output bit rvalid, output int rid, output bit [MEM_RDATA-1:0] rdata, output int rresp, output bit rlast,
    output bit bvalid, output int bid, output int bresp);
  import "DPI-C" function void bench_core(
    input bit request_ready, input bit response_valid, input bit [RESPONSE_PAYLOAD-1:0] response,
    output bit request_valid, output bit [REQUEST_PAYLOAD-1:0] request, output bit response_ready);
  import "DPI-C" function void bench_pages(
    input bit request_ready, input bit response_valid, input bit [ATS_PAGE_RESPONSE_PAYLOAD-1:0] response,
    output bit request_valid, output bit [ATS_PAGE_REQUEST_PAYLOAD-1:0] request, output bit response_ready);
  import "DPI-C" function void bench_csr(
    input bit awready, input bit wready, input bit bvalid, input int bresp,
    input bit arready, input bit rvalid, input longint rdata, input int rresp,
    output bit awvalid, output bit wvalid, output bit bready, output bit arvalid, output bit rready,
    output int address, output longint wdata, output int wstrb);
  import "DPI-C" function void bench_step(
    input bit irq_fault, input bit irq_invalidation, input bit irq_page_request,
    output bit rst, output bit wake);

  bit clk = 0;
  initial forever #1 clk = ~clk;  // twice as fast as a clock driven by cocotb
  bit rst = 1;
  bit wake  /*verilator public_flat_rd*/ = 0;  // changes level when something that Python waits for has finished

  bit mem_awvalid, mem_awready, mem_wvalid, mem_wready, mem_wlast, mem_bvalid, mem_bready;
  bit mem_arvalid, mem_arready, mem_rvalid, mem_rready, mem_rlast, mem_awlock, mem_arlock;
  bit [MEM_AWID-1:0] mem_awid, mem_arid, mem_bid, mem_rid;
  bit [MEM_AWADDR-1:0] mem_awaddr, mem_araddr;
  bit [7:0] mem_awlen, mem_arlen;
  bit [2:0] mem_awsize, mem_arsize;
  bit [1:0] mem_awburst, mem_arburst, mem_bresp, mem_rresp;
  bit [MEM_WDATA-1:0] mem_wdata, mem_rdata;
  bit [MEM_WSTRB-1:0] mem_wstrb;

  bit request_valid, request_ready, response_valid, response_ready;
  bit [REQUEST_PAYLOAD-1:0] request_payload;
  bit [RESPONSE_PAYLOAD-1:0] response_payload;

  // Not connected to a unit without an ats port.
  bit ats_page_request_valid, ats_page_request_ready, ats_page_response_valid, ats_page_response_ready;
  bit [ATS_PAGE_REQUEST_PAYLOAD-1:0] ats_page_request_payload;
  bit [ATS_PAGE_RESPONSE_PAYLOAD-1:0] ats_page_response_payload;

  bit csr_awvalid, csr_awready, csr_wvalid, csr_wready, csr_bvalid, csr_bready;
  bit csr_arvalid, csr_arready, csr_rvalid, csr_rready;
  bit [CSR_AWADDR-1:0] csr_awaddr, csr_araddr;
  bit [CSR_WDATA-1:0] csr_wdata, csr_rdata;
  bit [CSR_WSTRB-1:0] csr_wstrb;
  bit [1:0] csr_bresp, csr_rresp;

  bit irq_fault, irq_invalidation, irq_page_request;

  // What C++ drives, as the foreign functions return it.
  bit next_arready, next_awready, next_wready, next_rvalid, next_rlast, next_bvalid;
  int next_rid, next_rresp, next_bid, next_bresp;
  bit [MEM_RDATA-1:0] next_rdata;
  bit next_request_valid, next_response_ready;
  bit [REQUEST_PAYLOAD-1:0] next_request;
  bit next_page_request_valid, next_page_response_ready;
  bit [ATS_PAGE_REQUEST_PAYLOAD-1:0] next_page_request;
  bit next_csr_awvalid, next_csr_wvalid, next_csr_bready, next_csr_arvalid, next_csr_rready;
  int next_csr_address, next_csr_wstrb;
  longint next_csr_wdata;
  bit next_rst, next_wake;

  always @(posedge clk) begin
    bench_memory(
        mem_arvalid, int'(mem_arid), longint'(mem_araddr), int'(mem_arlen), int'(mem_arsize), int'(mem_arburst), mem_arlock,
        mem_awvalid, int'(mem_awid), longint'(mem_awaddr), int'(mem_awlen), int'(mem_awsize), int'(mem_awburst), mem_awlock,
        mem_wvalid, mem_wdata, longint'(mem_wstrb), mem_wlast, mem_rready, mem_bready,
        next_arready, next_awready, next_wready, next_rvalid, next_rid, next_rdata, next_rresp, next_rlast,
        next_bvalid, next_bid, next_bresp);
    mem_arready <= next_arready;
    mem_awready <= next_awready;
    mem_wready <= next_wready;
    mem_rvalid <= next_rvalid;
    mem_rid <= MEM_RID'(next_rid);
    mem_rdata <= next_rdata;
    mem_rresp <= 2'(next_rresp);
    mem_rlast <= next_rlast;
    mem_bvalid <= next_bvalid;
    mem_bid <= MEM_BID'(next_bid);
    mem_bresp <= 2'(next_bresp);

    bench_core(request_ready, response_valid, response_payload, next_request_valid, next_request, next_response_ready);
    request_valid <= next_request_valid;
    request_payload <= next_request;
    response_ready <= next_response_ready;

    bench_pages(
        ats_page_request_ready, ats_page_response_valid, ats_page_response_payload,
        next_page_request_valid, next_page_request, next_page_response_ready);
    ats_page_request_valid <= next_page_request_valid;
    ats_page_request_payload <= next_page_request;
    ats_page_response_ready <= next_page_response_ready;

    bench_csr(
        csr_awready, csr_wready, csr_bvalid, int'(csr_bresp), csr_arready, csr_rvalid, longint'(csr_rdata), int'(csr_rresp),
        next_csr_awvalid, next_csr_wvalid, next_csr_bready, next_csr_arvalid, next_csr_rready,
        next_csr_address, next_csr_wdata, next_csr_wstrb);
    csr_awvalid <= next_csr_awvalid;
    csr_wvalid <= next_csr_wvalid;
    csr_bready <= next_csr_bready;
    csr_arvalid <= next_csr_arvalid;
    csr_rready <= next_csr_rready;
    csr_awaddr <= CSR_AWADDR'(next_csr_address);
    csr_araddr <= CSR_ARADDR'(next_csr_address);
    csr_wdata <= next_csr_wdata;
    csr_wstrb <= CSR_WSTRB'(next_csr_wstrb);

    bench_step(irq_fault, irq_invalidation, irq_page_request, next_rst, next_wake);
    rst <= next_rst;
    wake <= next_wake;
  end

  nestwalk unit (
      .mem_awcache(), .mem_awprot(), .mem_awqos(), .mem_arcache(), .mem_arprot(), .mem_arqos(),
      .csr_awprot(3'b0), .csr_arprot(3'b0),
      .mark(), .draining(1'b0),
      .*);
endmodule
